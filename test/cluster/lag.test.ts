import { monitorEventLoopDelay } from "node:perf_hooks";
import { expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { startCluster } from "./harness.ts";
import { startS3 } from "./s3.ts";
import { openSite } from "./site.ts";

test("the daemon's event loop turns while a backup of 300 MB goes to S3, as its own metrics tell", async () => {
  await using cluster = await startCluster();
  await using s3 = await startS3();
  await s3.createBucket("backups");
  await cluster.fill({ keys: 4700, valueBytes: 64_000 });
  await using site = await openSite({
    cluster: { name: "prod", endpoints: [...cluster.endpoints] },
    store: { s3: { bucket: "backups", prefix: "lag", endpoint: s3.url, region: s3.region, pathStyle: true } },
    schedules: [{ name: "often", cron: "*/5 * * * * *" }],
  });
  // At line rate: what is paced has time to turn.
  const change = (config: typeof site.config): void => {
    config.spool = { ...config.spool, pace: "never" };
  };
  const env = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey };
  await using daemon = await startDaemon(site, { env, change });
  // What a start costs is told by the first backup; every look at the page begins the histogram anew.
  await daemon.next("backup.committed", undefined, 120_000);
  await daemon.next("backup.started", undefined, 120_000);
  await daemon.page("/metrics");
  // The same look at a process that does nothing: so much the machine itself takes.
  using idle = watchLoop();
  const { plainBytes } = await daemon.next("backup.committed", undefined, 120_000);
  const { body } = await daemon.page("/metrics");

  expect(plainBytes).toBeGreaterThan(300_000_000);
  const lagMs = (of: string): number =>
    Number(new RegExp(`^nodejs_eventloop_lag_${of}_seconds (\\S+)$`, "m").exec(body)?.[1]) * 1000;
  expect(lagMs("p99")).toBeLessThan(50 + 3 * idle.p99Ms());
  expect(lagMs("max")).toBeLessThan(500 + 3 * idle.longestMs());
});

function watchLoop(): Disposable & { p99Ms(): number; longestMs(): number } {
  const histogram = monitorEventLoopDelay({ resolution: 10 });
  histogram.enable();
  return {
    p99Ms: () => histogram.percentile(99) / 1e6,
    longestMs: () => histogram.max / 1e6,
    [Symbol.dispose]: () => void histogram.disable(),
  };
}
