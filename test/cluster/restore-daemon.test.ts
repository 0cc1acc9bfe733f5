import { expect, test } from "vitest";
import { startDaemon, type Daemon } from "./daemon.ts";
import { openRestorable } from "./restorable.ts";
import { ended, quick } from "./restoring.ts";

/** Looks at the members every second and a half, and at the lock every six. */
const hasty = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_CLOCK_HASTE: "10" };

/** Waits until the daemon has made so many more calls of the kind. */
async function untilCalls(daemon: Daemon, method: string, more: number): Promise<void> {
  const name = "lifeboat_etcd_probe_duration_seconds_count";
  const labels = [`method="${method}"`];
  const before = (await daemon.metric(name, ...labels)) ?? 0;
  await daemon.untilMetric(name, labels, (value) => (value ?? 0) >= before + more, 120_000);
}

test(
  "a daemon that reads keys of the members for their health falls silent beside a restore, and neither stops it nor keeps it from being taken back",
  { timeout: 400_000 },
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 1 });
    const { cluster } = site;
    await cluster.put("kept", "then");
    const { backup } = await site.site.json<{ backup: string }>(["backup"]);
    await cluster.put("kept", "now");
    site.site.config.schedules = [{ name: "yearly", cron: "0 0 1 1 *" }];
    await using daemon = await startDaemon(site.site, { env: hasty, unbounded: true });
    await daemon.next("backup.committed");
    await untilCalls(daemon, "range_linearizable", 2);

    const args = ["restore", ...quick, "--backup", backup];
    const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step healthy after done" };
    const died = await site.site.run(args, { env });
    expect(died.signal, died.stderr).toBe("SIGKILL");
    // It looks at the restored member all the while, and what it asks is no client's call.
    await untilCalls(daemon, "status", 4);
    expect(await daemon.metric("lifeboat_etcd_has_quorum")).toBe(1);
    ended(await site.site.run(["restore", "--rollback", ...quick]), 0);
    expect(await cluster.get("kept")).toBe("now");

    await untilCalls(daemon, "range_linearizable", 2);
    ended(await site.site.run(args), 0);
    expect(await cluster.get("kept")).toBe("then");
    await untilCalls(daemon, "range_linearizable", 2);
    ended(await daemon.stop(), 0);
  },
);
