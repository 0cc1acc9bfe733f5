import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runConfiguredHook } from "../../src/compose-hosts.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";

/** Hooks as sites write them, also bad ones: real programs, run as the command runs them. */

const never = new AbortController().signal;
const facts = { operation: "restore", id: "01JQ000000000000000000000Z", cluster: "prod", done: ["lock"] };
const patientMs = 60_000;
let directory: string;
let scripts = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "hooks-"));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

async function script(text: string, mode = 0o700): Promise<string> {
  const path = join(directory, `hook-${(scripts += 1)}`);
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, mode);
  return path;
}

interface Ran {
  readonly warning?: string | undefined;
  readonly fault?: Fault;
  readonly events: readonly LifeboatEvent[];
}

async function run(path: string, timeoutMs = patientMs, signal: AbortSignal = never): Promise<Ran> {
  const events: LifeboatEvent[] = [];
  const hooks = { "before-stop-etcd": { argv: [path, "an argument; with $HOME"] as [string, string], timeoutMs } };
  try {
    const emit = (event: LifeboatEvent): void => void events.push(event);
    return { warning: await runConfiguredHook({ hooks }, "before-stop-etcd", facts, emit, signal), events };
  } catch (error) {
    if (error instanceof Fault) return { fault: error, events };
    throw error;
  }
}

/** What an operator can come to see of it. */
const seen = (ran: Ran): string => JSON.stringify([ran.warning, ran.fault?.message, ran.fault?.hint, ran.events]);

describe("a hook", () => {
  test("is given its arguments as they are and the facts as JSON on its standard input", async () => {
    const path = await script('printf "%s\\n" "$1" >"$0.argument"; cat >"$0.facts"');
    const { fault, warning } = await run(path);
    expect([fault, warning]).toEqual([undefined, undefined]);
    expect(await readFile(`${path}.argument`, "utf8")).toBe("an argument; with $HOME\n");
    const told = JSON.parse(await readFile(`${path}.facts`, "utf8")) as object;
    expect(told).toEqual({ schema: "etcd-lifeboat/hook/v1", hook: "before-stop-etcd", ...facts });
  });

  test("that exits with 0 lets it go on, and what it said is told", async () => {
    const { events, warning } = await run(await script("echo the balancer is drained"));
    expect(warning).toBeUndefined();
    expect(events).toMatchObject([
      { name: "hook.ended", outcome: "passed", status: 0, timedOut: false, output: "the balancer is drained" },
    ]);
  });

  test("that exits with 62 lets it go on with a warning", async () => {
    const { warning, events } = await run(await script("echo one back end stayed >&2; exit 62"));
    expect(warning).toMatch(/^the hook before-stop-etcd \(.*\) warns: one back end stayed$/);
    expect(events).toMatchObject([{ outcome: "warned", status: 62 }]);
  });

  test("that exits with 63 stops it, and says why", async () => {
    const { fault, events } = await run(await script("echo the change is not approved; exit 63"));
    expect(fault?.code).toBe("hook-stopped");
    expect(fault?.message).toContain("says that the operation must not go on: the change is not approved");
    expect(events).toMatchObject([{ outcome: "stopped", status: 63 }]);
  });

  test("that exits with anything else, or is killed, has failed", async () => {
    const exits = await run(await script("echo what went wrong >&2; exit 1"));
    expect(exits.fault).toMatchObject({
      code: "hook-failed",
      message: expect.stringMatching(/exited with 1: what went wrong$/),
    });
    const dies = await run(await script("kill -SEGV $$"));
    expect(dies.fault).toMatchObject({ code: "hook-failed", message: expect.stringMatching(/was ended by SIGSEGV$/) });
    expect(dies.events).toMatchObject([{ outcome: "failed", status: undefined, timedOut: false }]);
  });
});

describe("a hook that is hostile", () => {
  test("and hangs is killed with all that it started", async () => {
    const path = await script(
      "trap '' TERM INT; (trap '' TERM; echo $$ >\"$0.pid\"; sleep 700) & echo waiting; sleep 700",
    );
    const { fault, events } = await run(path, 1500);
    expect(fault).toMatchObject({
      code: "hook-failed",
      message: expect.stringMatching(/took longer than 1.5 s, and was killed with all that it had started: waiting$/),
    });
    expect(events).toMatchObject([{ outcome: "failed", timedOut: true }]);
    const pid = Number(await readFile(`${path}.pid`, "utf8"));
    await expect.poll(() => isAlive(pid)).toBe(false);
  });

  test("and leaves a grandchild behind that holds its pipes is not waited for", async () => {
    const path = await script('setsid sh -c \'echo $$ >"$0.pid"; exec sleep 701\' "$0" & sleep 0.3; echo gone; exit 0');
    const { fault, events } = await run(path);
    expect(fault).toBeUndefined();
    expect(events).toMatchObject([{ outcome: "passed", output: "gone" }]);
    // It left its group, as a daemon does, and may live: it is this test's to end.
    const pid = Number(await readFile(`${path}.pid`, "utf8"));
    if (isAlive(pid)) process.kill(pid, "SIGKILL");
  });

  test("and prints secrets has them blanked wherever it is told, however much comes before them", async () => {
    const canaries = ["AGE-SECRET-KEY-1CANARY", "canary-password", "canarySignature", "CANARYKEYCANARYKEY"];
    const noise = "head -c 300000 /dev/zero | tr '\\0' 'x' | fold -w 60;";
    const secrets = [
      "echo 'AGE-SECRET-KEY-1CANARY';",
      "echo 'password=canary-password';",
      "echo 'https://s3/x?X-Amz-Signature=canarySignature';",
      "echo '-----BEGIN PRIVATE KEY-----'; echo CANARYKEYCANARYKEY; echo '-----END PRIVATE KEY-----';",
    ].join(" ");
    for (const status of [0, 1, 62, 63]) {
      const ran = await run(await script(`${noise} ${secrets} (${secrets}) >&2; echo the end; exit ${status}`));
      const text = seen(ran);
      expect(text).toContain("the end");
      for (const canary of canaries) expect(text).not.toContain(canary);
    }
  });

  test("and prints a key of which only the end is kept does not have that end told", async () => {
    const key =
      "echo '-----BEGIN PRIVATE KEY-----'; head -c 200000 /dev/zero | tr '\\0' 'K' | fold -w 64; echo; echo '-----END PRIVATE KEY-----';";
    const text = seen(await run(await script(`${key} echo after; exit 1`)));
    expect(text).toContain("after");
    expect(text).not.toContain("KKKK");
  });

  test("and prints 100 MB is read to its end, and only the end of that is told", async () => {
    const { fault, events } = await run(
      await script("head -c 100000000 /dev/zero | tr '\\0' 'y'; echo; echo last; exit 1"),
    );
    expect(fault?.message.length).toBeLessThan(2000);
    expect(fault?.message).toMatch(/last$/);
    expect(JSON.stringify(events).length).toBeLessThan(3000);
  });

  test("and closes its standard input at once is judged by its exit", async () => {
    const large = { ...facts, done: Array.from({ length: 20_000 }, (_, index) => `step.${index}`) };
    const hooks = {
      "before-stop-etcd": { argv: [await script("exec <&-; exit 0")] as [string], timeoutMs: patientMs },
    };
    const ran = runConfiguredHook({ hooks }, "before-stop-etcd", large, () => undefined, never);
    await expect(ran).resolves.toBeUndefined();
  });

  test("or is not there, or may not be executed, has failed, and says what to look at", async () => {
    for (const path of [join(directory, "nothing"), await script("exit 0", 0o600), directory]) {
      const { fault } = await run(path);
      expect(fault).toMatchObject({
        code: "hook-failed",
        message: expect.stringContaining("could not be started"),
        hint: `see that ${path} is there and may be executed`,
      });
    }
  });

  test("is killed when the operation is interrupted", async () => {
    const path = await script('echo $$ >"$0.pid"; sleep 702');
    const controller = new AbortController();
    const running = run(path, patientMs, controller.signal);
    await expect.poll(async () => await readFile(`${path}.pid`, "utf8").catch(() => "")).not.toBe("");
    controller.abort(new Fault("interrupted", "no more"));
    expect((await running).fault?.code).toBe("interrupted");
    const pid = Number(await readFile(`${path}.pid`, "utf8"));
    await expect.poll(() => isAlive(pid)).toBe(false);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
