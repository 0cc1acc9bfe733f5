import { describe, expect, test } from "vitest";
import { acquireLock } from "../../src/repository/lock.ts";
import { createRepository } from "../../src/repository/identity.ts";
import { lineageId, repositoryId } from "../repository/sample.ts";
import { calm } from "../snapshot/bytes.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, lockOf, say, sayAt } from "./console.ts";

/** An operation that died yesterday and left its lock. */
async function leaveLock(rig: Rig): Promise<void> {
  await acquireLock(lockOf(rig), "restore", false, calm);
  rig.clock.jump(24 * 3_600_000);
}

describe("pause and resume", () => {
  test("a paused repository refuses backup with 11 and says who paused it and why, in words and in JSON", async () => {
    using rig = await openRig();
    const config = ["--config", configOf(rig)];
    const paused = await say(rig, "pause", "--reason", "disks are replaced", ...config);
    expect([paused.status, paused.out]).toEqual([0, "paused\n"]);
    const refused = await say(rig, "backup", ...config);
    expect([refused.status, refused.fault]).toEqual([11, "paused"]);
    expect(refused.err).toContain(
      "paused since 2026-03-01T12:00:00Z by root on cp1 (process 4711): disks are replaced",
    );
    expect(refused.hint).toBe("go on with: etcd-lifeboat resume");
    expect(rig.ends()).toEqual([]);
    const again = await say(rig, "pause", "--json", ...config);
    expect(JSON.parse(again.out)).toEqual({
      schema: "etcd-lifeboat/pause/v1",
      changed: false,
      paused: {
        since: "2026-03-01T12:00:00.000Z",
        by: { host: "cp1", user: "root", pid: 4711, version: "1.2.3" },
        reason: "disks are replaced",
      },
    });
    expect((await say(rig, "lock", "show", ...config)).out).toContain("PAUSED since 2026-03-01T12:00:00Z");
    expect((await say(rig, "status", ...config)).out).toContain("lock: PAUSED since 2026-03-01T12:00:00Z");
    const resumed = await say(rig, "resume", ...config);
    expect(resumed.out).toContain("resumed; it was paused since");
    expect((await say(rig, "resume", ...config)).out).toBe("not paused\n");
    expect((await say(rig, "backup", ...config)).status).toBe(0);
  });

  test("a reason cannot steer the terminal", async () => {
    using rig = await openRig();
    const config = ["--config", configOf(rig)];
    await say(rig, "pause", "--reason", "\u001b[2Jgone\nfree, and not paused", ...config);
    const { out } = await say(rig, "lock", "show", ...config);
    expect(out.split("\n")).toHaveLength(2);
    expect(out).not.toContain("\u001b");
  });

  test("another cluster's repository is refused, not paused", async () => {
    using rig = await openRig();
    await createRepository(rig.store, "other", { repository: repositoryId, firstLineage: lineageId }, 0, calm);
    const refused = await say(rig, "pause", "--config", configOf(rig));
    expect([refused.status, refused.fault]).toEqual([4, "repository-foreign"]);
  });
});

describe("unlock", () => {
  test("says whose lock it is and whether they live, and takes it away when the cluster's name is typed", async () => {
    using rig = await openRig();
    const config = ["--config", configOf(rig)];
    await leaveLock(rig);
    expect((await say(rig, "backup", ...config)).status).toBe(11);
    const wrong = await sayAt("production", rig, "unlock", ...config);
    expect([wrong.status, wrong.fault]).toEqual([11, "locked"]);
    expect(wrong.err).toContain(
      "held by restore since 2026-03-01T12:00:00Z, root on cp1 (process 4711); it has been silent for 1d 00h",
    );
    expect(wrong.err).not.toContain("SEEMS TO WORK");
    const right = await sayAt("prod", rig, "unlock", ...config);
    expect([right.status, right.out]).toEqual([0, "unlocked\n"]);
    expect((await say(rig, "backup", ...config)).status).toBe(0);
  });

  test("without a terminal it needs --yes and the name, and neither alone", async () => {
    using rig = await openRig();
    const config = ["--config", configOf(rig)];
    await leaveLock(rig);
    for (const half of [[], ["--yes"], ["--confirm-cluster", "prod"], ["--yes", "--confirm-cluster", "test"]]) {
      expect((await say(rig, "unlock", ...half, ...config)).fault).toBe("locked");
    }
    const done = await say(rig, "unlock", "--yes", "--confirm-cluster", "prod", "--json", ...config);
    expect(JSON.parse(done.out)).toMatchObject({
      schema: "etcd-lifeboat/unlock/v1",
      changed: true,
      before: { holder: { operation: "restore", alive: false, lapsed: false }, paused: null, damaged: [] },
    });
  });

  test("warns when the holder seems to work", async () => {
    using rig = await openRig();
    await using _held = await acquireLock(lockOf(rig), "upgrade", false, calm);
    const refused = await sayAt("", rig, "unlock", "--config", configOf(rig));
    expect(refused.err).toContain("ITS HOLDER SEEMS TO WORK. To take the lock away, type the cluster's name: ");
    expect(refused.err).toContain("it was alive 0 ms ago");
  });

  test("covers an entry that cannot be read, keeps a pause, and has nothing to do where nobody holds the lock", async () => {
    using rig = await openRig();
    const config = ["--config", configOf(rig)];
    expect((await say(rig, "unlock", ...config)).out).toBe("nobody holds the lock\n");
    await say(rig, "pause", ...config);
    rig.store.objects.set("coordination/lock/000000002.json", {
      bytes: Buffer.from("{"),
      modifiedMs: rig.clock.now(),
    });
    expect((await say(rig, "backup", ...config)).fault).toBe("lock-damaged");
    expect((await say(rig, "lock", "show", ...config)).out).toContain(
      "UNREADABLE coordination/lock/000000002.json: coordination/lock/000000002.json is no JSON document\n" +
        "nobody works before 2026-03-01T13:00:00Z, or until: etcd-lifeboat unlock\n",
    );
    const done = await say(rig, "unlock", "--yes", "--confirm-cluster", "prod", ...config);
    expect([done.status, done.out]).toEqual([0, "unlocked\n"]);
    expect(done.err).toContain("the repository stays paused");
    expect((await say(rig, "backup", ...config)).fault).toBe("paused");
  });
});
