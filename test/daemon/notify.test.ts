import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openNotifier, type Notifier } from "../../src/daemon/notify.ts";
import { Fault } from "../../src/faults.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { samples } from "../telemetry/samples.ts";

interface Rig {
  readonly notifier: Notifier;
  readonly clock: SteeredClock;
  readonly sent: string[];
  readonly troubles: string[];
  alive: boolean;
  broken: boolean;
}

const startMs = Date.UTC(2026, 2, 1, 5, 30);

function openRig(env: Readonly<Record<string, string>> = {}): Rig {
  const clock = steeredClock(startMs);
  const sent: string[] = [];
  const troubles: string[] = [];
  const rig = { alive: true, broken: false };
  const notifier = openNotifier({
    env: { NOTIFY_SOCKET: "/run/systemd/notify", ...env },
    pid: 4711,
    clock,
    alive: () => rig.alive,
    onTrouble: (message) => troubles.push(message),
    async send(assignments) {
      if (rig.broken) throw new Error("exit status 1");
      sent.push(assignments.join(" "));
    },
  });
  return Object.assign(rig, { notifier, clock, sent, troubles });
}

describe("systemd is told", () => {
  test("that the daemon is ready, what comes next, what runs, how it ended, and that it stops", async () => {
    const rig = openRig();
    rig.notifier.listen(samples["daemon.ready"]);
    for (const event of [
      samples["schedule.planned"],
      samples["backup.started"],
      samples["backup.phase"],
      { ...samples["backup.committed"], schedule: "hourly" },
      samples["backup.failed"],
    ]) {
      rig.notifier.listen(event);
      await rig.clock.advance(1000);
    }
    rig.notifier.listen(samples["daemon.stopping"]);
    await rig.clock.advance(0);
    expect(rig.sent).toMatchInlineSnapshot(`
      [
        "READY=1 STATUS=no backup yet",
        "STATUS=next backup 2026-03-01T06:00:00Z (hourly); no backup yet",
        "STATUS=backing up hourly: choose; no backup yet",
        "STATUS=backing up hourly: drain done; no backup yet",
        "STATUS=next backup 2026-03-01T06:00:00Z (hourly); last backup 2026-03-01T06:00:07Z (hourly, 393 MiB)",
        "STATUS=next backup 2026-03-01T06:00:00Z (hourly); last run of hourly FAILED in upload: store-unreachable",
        "STOPPING=1 STATUS=stopping",
      ]
    `);
  });

  test("the newest state alone when much happens at once", async () => {
    const rig = openRig();
    rig.notifier.listen(samples["daemon.ready"]);
    for (let slot = 0; slot < 100; slot += 1) {
      rig.notifier.listen({ ...samples["schedule.planned"], nextRunMs: startMs + (slot + 1) * 60_000 });
    }
    await rig.clock.advance(10_000);
    expect(rig.sent.length).toBeLessThanOrEqual(3);
    expect(rig.sent.at(-1)).toContain("next backup 2026-03-01T07:10:00Z (hourly)");
  });

  test("of a reload, with the time that Type=notify-reload asks for, and of one that was refused until one is accepted", async () => {
    const rig = openRig();
    rig.notifier.listen(samples["config.reloading"]);
    rig.notifier.listen(samples["config.refused"]);
    rig.notifier.listen(samples["config.reloading"]);
    rig.notifier.listen(samples["config.accepted"]);
    await rig.clock.advance(0);
    expect(rig.sent[0]).toMatch(/^RELOADING=1 MONOTONIC_USEC=\d+ STATUS=no backup yet$/);
    expect(rig.sent[1]).toBe("READY=1 STATUS=no backup yet; RELOAD REFUSED, the old configuration stays");
    expect(rig.sent[3]).toBe("READY=1 STATUS=no backup yet");
  });

  test("of a pause and of an operation that has the cluster for itself", async () => {
    const rig = openRig();
    rig.notifier.listen({ ...samples["lock.observed"], holder: undefined });
    await rig.clock.advance(1000);
    rig.notifier.listen({ ...samples["lock.observed"], paused: false, holder: "restore" });
    await rig.clock.advance(1000);
    rig.notifier.listen({ ...samples["lock.observed"], paused: false, holder: undefined });
    await rig.clock.advance(1000);
    expect(rig.sent).toEqual([
      "STATUS=PAUSED; no backup yet",
      "STATUS=locked by restore; no backup yet",
      "STATUS=no backup yet",
    ]);
  });

  test("nothing that could be taken for an assignment of its own", async () => {
    const rig = openRig();
    rig.notifier.listen({ ...samples["backup.started"], schedule: "x\nWATCHDOG=trigger" });
    await rig.clock.advance(0);
    expect(rig.sent).toEqual(["STATUS=backing up x\\nWATCHDOG=trigger: choose; no backup yet"]);
  });

  test("once that it cannot be told, and again after it could", async () => {
    const rig = openRig();
    rig.broken = true;
    rig.notifier.listen(samples["daemon.ready"]);
    rig.notifier.listen(samples["config.reloading"]);
    await rig.clock.advance(0);
    expect(rig.troubles).toEqual(["systemd was not told READY=1 STATUS=no backup yet: exit status 1"]);
    rig.broken = false;
    rig.notifier.listen(samples["config.accepted"]);
    await rig.clock.advance(0);
    rig.broken = true;
    rig.notifier.listen(samples["config.accepted"]);
    await rig.clock.advance(0);
    expect(rig.troubles).toHaveLength(2);
  });

  test("nothing at all where no systemd listens", async () => {
    const rig = openRig({ NOTIFY_SOCKET: "", WATCHDOG_USEC: "1000000" });
    rig.notifier.listen(samples["daemon.ready"]);
    await rig.notifier.watch(new AbortController().signal);
    await rig.clock.advance(10_000);
    expect([rig.sent, rig.clock.sleepers()]).toEqual([[], 0]);
  });
});

describe("the watchdog", () => {
  test("is fed three times in its time while the loop turns, and not at all while it hangs", async () => {
    const rig = openRig({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "4711" });
    const stop = new AbortController();
    const watching = rig.notifier.watch(stop.signal);
    await rig.clock.advance(30_000);
    expect(rig.sent).toEqual(Array.from({ length: 4 }, () => "WATCHDOG=1"));
    rig.alive = false;
    await rig.clock.advance(60_000);
    expect(rig.sent).toHaveLength(4);
    rig.alive = true;
    await rig.clock.advance(10_000);
    expect(rig.sent).toHaveLength(5);
    stop.abort(new Fault("interrupted", "stop"));
    await watching;
    expect(rig.clock.sleepers()).toBe(0);
  });

  test("that is meant for another process is not fed", async () => {
    const rig = openRig({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "1" });
    await rig.notifier.watch(new AbortController().signal);
    expect(rig.sent).toEqual([]);
  });
});

describe("through the real systemd-notify", () => {
  test("a message arrives at the socket as it was meant", async () => {
    const directory = await mkdtemp(join(tmpdir(), "lifeboat-notify-"));
    const socket = join(directory, "notify");
    const listener = `
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    data, ancillary, _, _ = s.recvmsg(65536, 4096)
    for _, _, fds in ancillary:
        a = array.array("i"); a.frombytes(fds[: len(fds) // a.itemsize * a.itemsize])
        for fd in a:
            try: os.close(fd)
            except OSError: pass
    for line in data.decode().splitlines(): print(line, flush=True)
`;
    const child = spawn("python3", ["-c", listener, socket], { stdio: ["ignore", "pipe", "inherit"] });
    let heard = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (heard += text));
    try {
      await expect.poll(() => heard, { timeout: 20_000 }).toContain("bound");
      const troubles: string[] = [];
      await using notifier = openNotifier({
        env: { NOTIFY_SOCKET: socket, PATH: process.env["PATH"] },
        pid: process.pid,
        clock: steeredClock(startMs),
        alive: () => true,
        onTrouble: (message) => troubles.push(message),
      });
      notifier.listen(samples["daemon.ready"]);
      await expect.poll(() => heard, { timeout: 20_000 }).toContain("READY=1\nSTATUS=no backup yet\n");
      expect(troubles).toEqual([]);
    } finally {
      child.kill("SIGKILL");
      await rm(directory, { recursive: true, force: true });
    }
  });

  test("one that is not there is named", async () => {
    const troubles: string[] = [];
    const notifier = openNotifier({
      env: { NOTIFY_SOCKET: "/nowhere", PATH: "/nowhere" },
      pid: process.pid,
      clock: steeredClock(startMs),
      alive: () => true,
      onTrouble: (message) => troubles.push(message),
    });
    notifier.listen(samples["daemon.ready"]);
    await notifier[Symbol.asyncDispose]();
    expect(troubles).toEqual([
      "systemd was not told READY=1 STATUS=no backup yet: there is no systemd-notify on the PATH",
    ]);
  });
});
