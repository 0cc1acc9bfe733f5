import { existsSync } from "node:fs";
import { join } from "node:path";
import { GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, it, vi } from "vitest";
import { restoreCluster, startCluster } from "./harness.ts";
import { startS3 } from "./s3.ts";
import { minors } from "./servers.ts";

describe.each(minors)("etcd %s", (minor) => {
  it("starts with one member, keeps what was put over a restart, and comes back from a snapshot", async () => {
    await using cluster = await startCluster({ minor });
    await cluster.put("greeting", "hello");
    const [member] = cluster.members;
    await member?.stop();
    await member?.start();
    expect(await cluster.get("greeting")).toBe("hello");

    const snapshotFile = join(cluster.directory, "snapshot.db");
    await cluster.etcdctl(["snapshot", "save", snapshotFile], { endpoints: [cluster.endpoints[0] ?? ""] });
    const before = await cluster.revision();
    await cluster.destroy();
    // Revisions can be bumped by etcdutl alone, whose data 3.3 and 3.4 read.
    await using restored = await restoreCluster({ minor, snapshotFile, bump: 1000n });
    expect(await restored.get("greeting")).toBe("hello");
    expect(await restored.revision()).toBeGreaterThanOrEqual(before + 1000n);
  });
});

describe("a cluster of three with TLS and authentication", () => {
  it("serves through its certificates and its user, loses a member, grows and is gone afterwards", async () => {
    let pids: readonly number[] = [];
    {
      await using cluster = await startCluster({ members: 3, tls: true, auth: { rootPassword: "secret" } });
      await cluster.fill({ keys: 2000, valueBytes: 500 });
      expect(await cluster.get("fill/00001999")).toHaveLength(500);

      const anonymous = cluster.etcdctl(["get", "greeting", "--user=guest:guess"]);
      await expect(anonymous).rejects.toThrow("authentication failed");
      const { cert, key } = cluster.tls?.root ?? { cert: "", key: "" };
      const byName = ["get", "fill/00000000", `--cert=${cert}`, `--key=${key}`];
      expect(await cluster.etcdctl(byName, { env: { ETCDCTL_USER: "" } })).toContain("fill/00000000");

      const [first, second] = cluster.members;
      await first?.stop("SIGKILL");
      expect(first?.running).toBe(false);
      await cluster.put("greeting", "from two");
      await first?.start();
      second?.pause();
      // The paused one may be the leader; the other two elect another.
      const through = { endpoints: [first?.clientUrl ?? ""] };
      await vi.waitFor(async () => {
        expect(await cluster.etcdctl(["get", "greeting"], through)).toContain("from two");
      }, 60_000);
      second?.resume();

      const learner = await cluster.addMember({ learner: true });
      expect(await cluster.etcdctl(["member", "list"])).toMatch(new RegExp(`${learner.name}.*true`));
      pids = cluster.members.map((member) => member.pid);
      expect(pids.filter(isAlive)).toHaveLength(4);
    }
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it("fails to start with the end of the log", async () => {
    await expect(startCluster({ flags: ["--election-timeout=1"] })).rejects.toThrow(/etcd1 ended[^]*election-timeout/);
  });
});

describe.each([
  { tls: false, versioning: false },
  { tls: true, versioning: true },
])("the S3 server with %o", (options) => {
  it("makes a bucket, keeps an object over a restart and is gone afterwards", async () => {
    let pid: number;
    {
      await using s3 = await startS3(options);
      await s3.createBucket("bucket");
      const client = s3.client();
      await client.send(new PutObjectCommand({ Bucket: "bucket", Key: "a/b", Body: "hello" }));
      await s3.stop();
      expect(s3.running).toBe(false);
      await s3.start();
      const answer = await client.send(new GetObjectCommand({ Bucket: "bucket", Key: "a/b" }));
      expect(await answer.Body?.transformToString()).toBe("hello");
      expect(answer.VersionId !== undefined).toBe(options.versioning);
      client.destroy();
      pid = s3.pid;
    }
    expect(isAlive(pid)).toBe(false);
  });
});

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}
