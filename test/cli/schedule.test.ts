import { describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { formatBackupName } from "../../src/repository/names.ts";
import { openRig, scanned, type Rig } from "../snapshot/rig.ts";
import { configOf, say } from "./console.ts";

/** The rig's clock stands at 2026-03-01T12:00:00Z, a Sunday. */
const schedules = `schedules:
  - { name: hourly, cron: "0 * * * *", jitter: 2m }
  - { name: nightly, cron: "30 2 * * *", timeZone: Europe/Berlin }
`;

const due = (rig: Rig, ...argv: string[]) =>
  say(rig, "backup", "--schedule", "hourly", "--if-due", ...argv, "--config", configOf(rig, schedules));

describe("backup --schedule --if-due", () => {
  test("commits the latest slot under its key, once, and the next call finds nothing to do", async () => {
    using rig = await openRig();
    const first = await due(rig);
    expect([first.status, first.out]).toEqual([0, "20260301T120000Z.slot.hourly\n"]);
    const second = await due(rig);
    expect([second.status, second.out]).toEqual([0, ""]);
    expect(second.err).toContain("not due: the newest slot, 2026-03-01T12:00:00.000Z, is committed");
    const json = await due(rig, "--json");
    expect(JSON.parse(json.out)).toEqual({
      schema: "etcd-lifeboat/if-due/v1",
      schedule: "hourly",
      due: false,
      slot: "2026-03-01T12:00:00.000Z",
      backup: null,
      next: "2026-03-01T13:00:00.000Z",
    });
  });

  test("serves all slots that were missed with one backup, and says how many", async () => {
    using rig = await openRig();
    await due(rig);
    rig.clock.jump(5 * 3_600_000 + 600_000);
    const late = await due(rig);
    expect(late.out).toBe("20260301T170000Z.slot.hourly\n");
    expect(late.err).toContain("4 slots before it passed without a backup");
  });

  test("after another history was adopted, slots that were committed of the old one serve nobody", async () => {
    using rig = await openRig();
    const nightly = () => say(rig, "backup", "--schedule", "nightly", "--if-due", "--config", configOf(rig, schedules));
    await due(rig);
    expect((await nightly()).out).toBe("20260301T013000Z.slot.nightly\n");
    Object.assign(rig.etcd.script, { revision: 10n, raftIndex: 20n });
    rig.facts.current = scanned({ revision: 10n });
    const adopted = await say(rig, "adopt", "--confirm-cluster", "prod", "--config", configOf(rig, schedules));
    expect(adopted.status, adopted.err).toBe(0);
    rig.clock.jump(3_600_000);
    expect((await due(rig)).out).toBe("20260301T130000Z.slot.hourly\n");
    expect((await nightly()).out).toBe("20260301T013000Z.slot.nightly\n");
    expect((await nightly()).out).toBe("");
  });

  test("called by many at once commits one backup, and all of them succeed", async () => {
    using rig = await openRig();
    const all = await Promise.all(Array.from({ length: 5 }, () => due(rig, "--json")));
    expect(all.map(({ status }) => status)).toEqual([0, 0, 0, 0, 0]);
    const name = formatBackupName({ kind: "slot", timeMs: rig.clock.now(), schedule: "hourly" });
    expect([...rig.store.objects.keys()].filter((key) => key.endsWith(`/backups/${name}.json`))).toHaveLength(1);
    const schemas = all.map(({ out }) => (JSON.parse(out) as { schema: string }).schema);
    expect(schemas.filter((schema) => schema === "etcd-lifeboat/backup/v1")).toHaveLength(1);
  });

  test("is refused with 11 during a pause when something is due, and is a success when nothing is", async () => {
    using rig = await openRig();
    await due(rig);
    await say(rig, "pause", "--config", configOf(rig, schedules));
    expect((await due(rig)).status).toBe(0);
    rig.clock.jump(3_600_000);
    const held = await due(rig);
    expect([held.status, held.fault]).toEqual([11, "paused"]);
  });

  test("the next call tries a failed slot again", async () => {
    using rig = await openRig();
    const struck = rig.store.trouble({ method: "upload", nth: 1, fail: new Fault("store-unreachable", "no route") });
    const failed = await due(rig);
    expect([failed.fault, struck()]).toEqual(["store-unreachable", 1]);
    expect((await due(rig)).out).toBe("20260301T120000Z.slot.hourly\n");
  });

  test("a slot that a wrong clock put into the future does not keep later ones from being due", async () => {
    using rig = await openRig();
    rig.clock.jump(10_000 * 3_600_000);
    await due(rig);
    rig.clock.jump(-9_999 * 3_600_000);
    expect((await due(rig)).out).toBe("20260301T130000Z.slot.hourly\n");
  });

  test.each([
    { argv: ["--schedule", "hourly"], says: "--schedule and --if-due belong together" },
    { argv: ["--if-due"], says: "--schedule and --if-due belong together" },
    {
      argv: ["--schedule", "hourly", "--if-due", "--label", "x"],
      says: "--label and --dry-run are for a backup on demand",
    },
    { argv: ["--schedule", "weekly", "--if-due"], says: 'there is no schedule "weekly"' },
  ])("$argv is wrong usage", async ({ argv, says }) => {
    using rig = await openRig();
    const refused = await say(rig, "backup", ...argv, "--config", configOf(rig, schedules));
    expect([refused.status, refused.fault]).toEqual([2, "usage"]);
    expect(refused.err).toContain(says);
    expect(rig.store.objects.size).toBe(0);
  });
});

describe("schedule explain", () => {
  test("shows the next slots in the zone and in UTC, the jitter, when it is overdue, and what clocks do", async () => {
    using rig = await openRig();
    const { status, out } = await say(rig, "schedule", "explain", "--config", configOf(rig, schedules));
    expect(status).toBe(0);
    await expect(out).toMatchFileSnapshot("golden/schedule-explain.txt");
  });

  test("of one schedule in JSON has every instant as RFC 3339", async () => {
    using rig = await openRig();
    const argv = ["schedule", "explain", "nightly", "--json", "--config", configOf(rig, schedules)];
    const { out } = await say(rig, ...argv);
    expect(JSON.parse(out)).toMatchObject({
      schema: "etcd-lifeboat/schedule-explain/v1",
      schedules: [
        {
          name: "nightly",
          cron: "30 2 * * *",
          timeZone: "Europe/Berlin",
          jitterMs: 0,
          delayMs: 0,
          longestIntervalMs: 25 * 3_600_000,
          overdueAfterMs: 48 * 3_600_000 + 600_000,
          next: [{ slot: "2026-03-02T01:30:00.000Z", local: "Mon 2026-03-02 02:30:00 +01:00" }, {}, {}, {}, {}],
          clockChanges: [
            { at: "2026-03-29T01:00:00.000Z", minutes: 60, slots: ["Sun 2026-03-29 03:00:00 +02:00"] },
            { at: "2026-10-25T01:00:00.000Z", minutes: -60, slots: ["Sun 2026-10-25 02:30:00 +02:00"] },
            { at: "2027-03-28T01:00:00.000Z", minutes: 60, slots: ["Sun 2027-03-28 03:00:00 +02:00"] },
          ],
        },
      ],
    });
  });

  test("of rare schedules looks further than a year", async () => {
    using rig = await openRig();
    const rare = 'schedules: [{ name: leap, cron: "0 0 29 2 *" }]\n';
    const { out } = await say(rig, "schedule", "explain", "leap", "--config", configOf(rig, rare));
    expect(out).toContain("Tue 2028-02-29 00:00:00 +00:00");
    expect(out).toContain("at most 1461d 00h from slot to slot");
  });

  test.each([
    { cron: "0 3 1 * 0", says: "write two schedules" },
    { cron: "@daily", says: 'write \\"0 0 * * *\\"' },
    { cron: "0 0 31 2 *", says: "never fires" },
  ])("of $cron says why it is refused and what to write instead", async ({ cron, says }) => {
    using rig = await openRig();
    const config = configOf(rig, `schedules: [{ name: trap, cron: "${cron}" }]\n`);
    const refused = await say(rig, "schedule", "explain", "--config", config);
    expect([refused.status, refused.fault]).toEqual([78, "config-invalid"]);
    expect(refused.err).toContain(says.replaceAll("\\", ""));
  });

  test("of a schedule that is not there ends with 10 and names those that are", async () => {
    using rig = await openRig();
    const missing = await say(rig, "schedule", "explain", "weekly", "--config", configOf(rig, schedules));
    expect([missing.status, missing.hint]).toEqual([10, "there is: hourly, nightly"]);
  });
});
