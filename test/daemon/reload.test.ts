import { describe, expect, test } from "vitest";
import { workReloading, type ReloadDependencies } from "../../src/daemon/reload.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";

interface Rig {
  readonly deps: ReloadDependencies<string>;
  readonly events: LifeboatEvent[];
  /** `begin X`, `end X`, `close X` in their order. */
  readonly story: string[];
  readonly hangUp: () => void;
  /** What the next loads give. */
  readonly files: (string | Error)[];
  /** Lets the backup that runs come to its end. */
  readonly finish: () => void;
  readonly listeners: Set<() => void>;
}

/** Configurations are names; the work of one goes on until it is retired and its backup is finished. */
function openRig(): Rig {
  const events: LifeboatEvent[] = [];
  const story: string[] = [];
  const files: (string | Error)[] = [];
  const listeners = new Set<() => void>();
  let finish = (): void => undefined;
  const aborted = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  return {
    events,
    story,
    files,
    listeners,
    hangUp: () => listeners.forEach((listener) => listener()),
    finish: () => finish(),
    deps: {
      load: async () => {
        const next = files.shift() ?? new Error("nothing to load");
        if (next instanceof Error) throw next;
        return next;
      },
      async work(current, retire, stop) {
        story.push(`begin ${current}`);
        const backup = new Promise<void>((resolve) => (finish = resolve));
        await Promise.race([aborted(stop), Promise.all([aborted(retire), backup])]);
        story.push(`end ${current}`);
      },
      close: async (given) => void story.push(`close ${given}`),
      describe: (given) => ({ path: "/config.yaml", schedules: [given], copies: [] }),
      onReload(listener) {
        listeners.add(listener);
        return { [Symbol.dispose]: () => void listeners.delete(listener) };
      },
      emit: (event) => events.push(event),
    },
  };
}

const names = (rig: Rig): readonly string[] => rig.events.map(({ name }) => name);
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a reload", () => {
  test("lets the backup that runs come to its end, then works by the new configuration", async () => {
    const rig = openRig();
    const stop = new AbortController();
    const working = workReloading(rig.deps, "a", stop.signal);
    rig.files.push("b");
    rig.hangUp();
    await settled();
    expect(names(rig)).toEqual(["config.reloading", "config.accepted"]);
    expect(rig.story).toEqual(["begin a"]);
    rig.finish();
    await settled();
    expect(rig.story).toEqual(["begin a", "end a", "close a", "begin b"]);
    expect(rig.events.at(-1)).toEqual({ name: "config.applied", path: "/config.yaml", schedules: ["b"], copies: [] });
    stop.abort();
    await working;
    expect(rig.story.slice(4)).toEqual(["end b", "close b"]);
    expect(rig.listeners.size).toBe(0);
  });

  test("with a configuration that cannot be used changes nothing and says so", async () => {
    const rig = openRig();
    const stop = new AbortController();
    const working = workReloading(rig.deps, "a", stop.signal);
    rig.files.push(new Fault("config-invalid", "config.yaml:3: unknown key"));
    rig.hangUp();
    await settled();
    rig.finish();
    await settled();
    expect(rig.events.at(-1)).toEqual({
      name: "config.refused",
      code: "config-invalid",
      message: "config.yaml:3: unknown key",
    });
    expect(rig.story).toEqual(["begin a"]);
    stop.abort();
    await working;
    expect(rig.story).toEqual(["begin a", "end a", "close a"]);
  });

  test("of which several come while a backup runs ends at the newest, and each that was opened is closed", async () => {
    const rig = openRig();
    const stop = new AbortController();
    const working = workReloading(rig.deps, "a", stop.signal);
    for (const file of ["b", "c"]) {
      rig.files.push(file);
      rig.hangUp();
      await settled();
    }
    rig.files.push(new Fault("config-invalid", "no"));
    rig.hangUp();
    await settled();
    rig.finish();
    await settled();
    expect(rig.story).toEqual(["begin a", "close b", "end a", "close a", "begin c"]);
    stop.abort();
    await working;
  });

  test("that waits for a backup when the daemon is stopped never takes effect, and is closed", async () => {
    const rig = openRig();
    const stop = new AbortController();
    const working = workReloading(rig.deps, "a", stop.signal);
    rig.files.push("b");
    rig.hangUp();
    await settled();
    stop.abort();
    await working;
    expect(rig.story).toEqual(["begin a", "end a", "close a", "close b"]);
    expect(names(rig)).not.toContain("config.applied");
  });

  test("that fails by a bug ends the daemon loudly", async () => {
    const rig = openRig();
    const stop = new AbortController();
    const working = workReloading(rig.deps, "a", stop.signal);
    rig.files.push(new TypeError("x is not a function"));
    rig.hangUp();
    await expect(working).rejects.toThrow(TypeError);
    expect(rig.story).toEqual(["begin a", "end a", "close a"]);
  });
});
