import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { openLocalHost } from "../../src/host/local.ts";
import { openCommandService, type Argv } from "../../src/service/command.ts";
import { openSystemdService } from "../../src/service/systemd.ts";
import type { Service } from "../../src/service/service.ts";
import { redactWhole } from "../../src/telemetry/redact.ts";
import { serviceContract } from "../contracts/service.ts";
import { fakeHost } from "../fakes/host.ts";

const never = new AbortController().signal;
const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8);
const secret = "hunter2hunter2";

test("what a command or systemctl prints when it fails, and its arguments, are told without secrets", async () => {
  const host = fakeHost("h1");
  for (const program of ["/opt/service", "systemctl"])
    host.programs.set(program, () => ({ status: 1, stderr: `cannot log in with password=${secret} today` }));
  const command = openCommandService(host, {
    name: "etcd",
    role: "etcd",
    start: ["/opt/service", "start", `--password=${secret}`],
    stop: ["/opt/service", "stop", `--password=${secret}`],
    probe: ["/opt/service", "status"],
    timeoutMs: 1000,
    stateDirectory: "/var/lib/ours",
    redact: redactWhole,
    digest,
  });
  const systemd = openSystemdService(host, { name: "etcd", role: "etcd", unit: "etcd.service", redact: redactWhole });
  const acts = [
    async () => await command.start(never),
    async () => await command.stop(never),
    async () => void (await command.state(never)),
    async () => await systemd.stop(never),
    async () => void (await systemd.state(never)),
  ];
  for (const act of acts) {
    const fault: unknown = await act().then(
      () => undefined,
      (error: unknown) => error,
    );
    const { message, hint } = fault as { readonly message: string; readonly hint?: string };
    expect(`${message} ${hint ?? ""}`).toMatch(/cannot log in/);
    expect(`${message} ${hint ?? ""}`).not.toContain(secret);
  }
});

const program = fileURLToPath(new URL("../standins/service.ts", import.meta.url));

serviceContract("commands of a site", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-command-"));
  const argv = ["sleep", `6${process.pid}`];
  await writeFile(join(directory, "service.json"), JSON.stringify({ argv }));
  const host = openLocalHost("cp1");
  const word = (action: string): Argv => [process.execPath, program, action, directory];
  const by = async (action: string) => await host.run(word(action), { timeoutMs: 60_000, keepGroup: true }, never);
  await by("start");
  return {
    service: openCommandService(host, {
      name: "etcd",
      role: "etcd",
      start: word("start"),
      stop: word("stop"),
      probe: word("probe"),
      disable: word("disable"),
      enable: word("enable"),
      enabled: word("enabled"),
      timeoutMs: 60_000,
      stateDirectory: join(directory, "state"),
      digest,
    }),
    runsAs: async () => await readFile(join(directory, "pid"), "utf8"),
    reboot: async () => {
      await by("power-off");
      await by("boot");
    },
    meddle: async () => {
      expect((await by("start")).status).toBe(1);
    },
    [Symbol.asyncDispose]: async () => {
      await by("disable");
      await by("stop");
      await rm(directory, { recursive: true, force: true });
    },
  };
});

/** A service whose switch is in memory; what was asked of it, in order. */
function switchable(isOn: boolean): {
  readonly service: Service;
  readonly asked: string[];
  readonly isOn: () => boolean;
} {
  const host = fakeHost("h1");
  const asked: string[] = [];
  let on = isOn;
  host.programs.set("/opt/service", ([, action = ""]) => {
    if (action !== "status") asked.push(action);
    if (action.endsWith("able")) on = action === "enable";
    return { status: action === "enabled" && !on ? 3 : 0 };
  });
  const word = (action: string): Argv => ["/opt/service", action];
  const service = openCommandService(host, {
    name: "standby",
    role: "client",
    start: word("start"),
    stop: word("stop"),
    probe: word("status"),
    disable: word("disable"),
    enable: word("enable"),
    enabled: word("enabled"),
    timeoutMs: 1000,
    stateDirectory: "/var/lib/ours",
    digest,
  });
  return { service, asked, isOn: () => on };
}

test("what was disabled before it was held is disabled when it is released, also after a second hold", async () => {
  for (const before of [true, false]) {
    const { service, asked, isOn } = switchable(before);
    expect(await service.state(never)).toMatchObject({ boots: before ? "yes" : "no" });
    await service.hold("01A", never);
    // Another process of the same operation, which finds it disabled by the first.
    await service.hold("01A", never);
    expect(await service.state(never)).toMatchObject({ heldBy: "01A", boots: "no" });
    expect(isOn()).toBe(false);
    await service.release(never);
    expect(isOn()).toBe(before);
    expect(asked.filter((action) => action === "enable")).toHaveLength(before ? 1 : 0);
    expect(await service.state(never)).toMatchObject({ heldBy: undefined, boots: before ? "yes" : "no" });
  }
});

test("without disable and enable it says that it cannot be held, and is not", async () => {
  const host = fakeHost("h1");
  host.programs.set("/opt/service", () => ({ status: 0 }));
  const word = (action: string): Argv => ["/opt/service", action];
  const options = { start: word("start"), stop: word("stop"), probe: word("status"), timeoutMs: 1000 };
  const others = { name: "api", role: "api-server", stateDirectory: "/var/lib/ours", digest } as const;
  const service = openCommandService(host, { ...options, ...others });
  expect(service.canHold).toBe(false);
  await expect(service.hold("01A", never)).rejects.toMatchObject({
    code: "service-unholdable",
    hint: "give it disable and enable under hosts.h1",
  });
  expect(await service.state(never)).toMatchObject({ running: true, heldBy: undefined, boots: "unknown" });
  expect(host.tree()).toEqual({});
});

test("its description is another one when it is held in another way, not when what failed is mended, and shows no argument", () => {
  const word = (action: string): Argv => ["/opt/service", action, `--password=${secret}`];
  const base = { name: "etcd", role: "etcd", start: word("start"), stop: word("stop"), probe: word("status") } as const;
  const describe = (changes: Partial<Parameters<typeof openCommandService>[1]>): string =>
    openCommandService(fakeHost("h1"), {
      ...base,
      timeoutMs: 1000,
      stateDirectory: "/var/lib/ours",
      digest,
      ...changes,
    }).description;
  const first = describe({});
  expect(first).toMatch(/^\/opt\/service \(commands [0-9a-f]{8}\)$/);
  for (const mended of [{ timeoutMs: 2000 }, { stop: word("halt") }, { probe: word("probe") }, { join: word("join") }])
    expect(describe(mended)).toBe(first);
  const others: readonly Parameters<typeof describe>[0][] = [
    { start: ["/opt/other", "start"] },
    { disable: word("off"), enable: word("on") },
    { environmentFile: "/etc/default/etcd" },
    { stateDirectory: "/var/lib/else" },
  ];
  expect(new Set([first, ...others.map(describe)]).size).toBe(others.length + 1);
});
