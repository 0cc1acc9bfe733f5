import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { pauseRepository } from "../../src/repository/lock.ts";
import { calm } from "../snapshot/bytes.ts";
import { runBackup } from "../../src/snapshot/backup.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, lockOf, say, type Said } from "./console.ts";

/** What status and check say of the same states, each of which is found, and absent where it is not. */

const hourMs = 3_600_000;
const schedules = `schedules: [{ name: hourly, cron: "0 * * * *" }]\n`;
let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(() => rig[Symbol.dispose]());

async function on(...argv: string[]): Promise<Said> {
  return await rig.passing(say(rig, ...argv, "--config", configOf(rig, schedules)));
}

/** A backup of the hour that has just begun. */
async function slot(): Promise<void> {
  const slotMs = Math.floor(rig.clock.now() / hourMs) * hourMs;
  await rig.passing(runBackup(rig.deps, { trigger: "schedule", schedule: "hourly", slotMs }, calm));
}

interface Document {
  readonly restorable: { readonly verdict: string; readonly proven: boolean | null; readonly revisionsBehind: unknown };
  readonly troubles: readonly { readonly severity: string; readonly about: string; readonly help: string }[];
  readonly schedules: readonly { readonly due: boolean; readonly next: string | null }[];
  readonly etcd: { readonly tolerance: object } | null;
}

async function document(): Promise<Document> {
  return JSON.parse((await on("status", "--json")).out) as Document;
}

test("all is well: restorable, nothing wrong, and check says OK with the thresholds of the schedule", async () => {
  await slot();
  rig.clock.jump(600_000);
  rig.etcd.script.revision = 60n;
  const status = await on("status");
  expect(status.status).toBe(0);
  expect(status.out).toMatch(
    /^RESTORABLE: 20260301T120000Z\.slot\.hourly, 10m 0\ds ago, proven, 10 revisions behind the cluster; backups since 2026-03-01T12:00:00Z\nnothing is wrong\n/,
  );
  expect(status.out).toContain("failures: 3 of 3 voters answer, and 1 more may fail: that is survived\n");
  expect(status.out).toMatch(
    /^hourly {4}10m 0\ds ago {2}10m 0\ds ago {2}1h 00m {2}2026-03-01T13:00:00Z \(in \d+m \d\ds\)$/m,
  );
  expect(await document()).toMatchObject({
    restorable: { verdict: "yes", proven: true, revisionsBehind: "10", since: "2026-03-01T12:00:00.000Z" },
    troubles: [],
    schedules: [{ name: "hourly", due: false, next: "2026-03-01T13:00:00.000Z", overdueAfterMs: 2 * hourMs + 600_000 }],
    etcd: { tolerance: { voters: 3, votersUp: 3, needed: 2, tolerates: 1, toleratesWhole: 1, advice: null } },
    retention: null,
  });
  const check = await on("check");
  expect(check).toMatchObject({ status: 0, err: "" });
  expect(check.out).toMatch(
    /^OK: backup hourly 10m 0\ds ago, proven 10m 0\ds ago, 3 of 3 voters up \| 'hourly_age'=60\ds;6000;7800;0; 'hourly_proof_age'=60\ds;18000;;0; 'backups'=1;;;0; 'voters_up'=3;3:;2:;0;3 'failures_tolerated'=1;;;0; 'spool_free'=\d+B;;;0;\d+\n$/,
  );
});

/** A state, what it is called, and how bad it is; each is looked for in status and in check. */
const states: readonly {
  readonly name: string;
  readonly make: () => Promise<void> | void;
  readonly about: RegExp;
  readonly says: RegExp;
  readonly check: number;
  /** It passes with one look. */
  readonly passes?: true;
}[] = [
  {
    name: "no backup at all",
    make: () => rig.store.objects.clear(),
    about: /^repository$/,
    says: /NOT RESTORABLE: there is no backup of this cluster/,
    check: 2,
  },
  {
    name: "a schedule that is late",
    make: () => rig.clock.jump(1.8 * hourMs),
    about: /^schedule hourly$/,
    says: /no backup for 1h 48m, one is due every 1h 00m/,
    check: 1,
  },
  {
    name: "a schedule that is overdue",
    make: () => rig.clock.jump(3 * hourMs),
    about: /^schedule hourly$/,
    says: /RESTORABLE, BUT OLD since 2026-03-01T14:10:0\dZ/,
    check: 2,
  },
  {
    name: "backups that are not proven any more",
    make: async () => {
      for (const [index, { name }] of rig.etcd.script.members.entries()) rig.etcd.member(name).hash = 7 + index;
      for (let hour = 0; hour < 6; hour += 1) {
        rig.clock.jump(hourMs);
        await slot();
      }
    },
    about: /^schedule hourly$/,
    says: /no backup was proven for 6h/,
    check: 1,
  },
  {
    name: "a member that is down",
    make: () => void (rig.etcd.member("etcd3").down = true),
    about: /^member etcd3$/,
    says: /does not answer: .*no further failure is survived/,
    check: 2,
  },
  {
    name: "no quorum",
    make: () => {
      rig.etcd.script.quorum = false;
      for (const name of ["etcd2", "etcd3"]) rig.etcd.member(name).down = true;
    },
    about: /^etcd$/,
    says: /no quorum: 1 of 3 voters answer, 2 are needed/,
    check: 2,
  },
  {
    name: "no member",
    make: () => {
      for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = true;
    },
    about: /^etcd$/,
    says: /no endpoint answers/,
    check: 2,
  },
  {
    name: "an alarm",
    make: () => void (rig.etcd.script.alarms = [{ memberId: 1n, kind: "NOSPACE" }]),
    about: /^alarm NOSPACE$/,
    says: /etcdctl alarm disarm/,
    check: 2,
  },
  {
    name: "a database near its quota",
    make: () => void (rig.etcd.member("etcd2").status = { dbBytes: 90, dbInUseBytes: 20, quotaBytes: 100 }),
    about: /^member etcd2$/,
    says: /its database has 90 B of a quota of 100 B {2}etcdctl defrag --endpoints=/,
    check: 1,
  },
  {
    name: "an address that another member answers",
    make: () => void (rig.etcd.member("etcd3").answeredBy = "etcd2"),
    about: /^member etcd3$/,
    says: /is answered by member/,
    check: 2,
  },
  {
    name: "another history",
    make: () => void (rig.etcd.script.clusterId = 999n),
    about: /^repository$/,
    says: /NOT RESTORABLE: there is no backup of the cluster's present history/,
    check: 2,
  },
  {
    name: "a pause",
    make: async () => void (await pauseRepository(lockOf(rig), "disks", calm)),
    about: /^pause$/,
    says: /backups are paused by root on cp1: disks {2}etcd-lifeboat resume/,
    check: 1,
  },
  {
    name: "a lock that cannot be read",
    make: async () => await rig.store.create("coordination/lock/000000001.json", Buffer.from("{"), calm),
    about: /^lock$/,
    says: /the lock cannot be read/,
    check: 2,
  },
  {
    name: "a store that does not answer",
    make: () => void rig.store.trouble({ method: "read", fail: new Fault("store-unreachable", "no way") }),
    about: /^repository$/,
    says: /RESTORABLE\? not known: the repository cannot be read/,
    check: 3,
    passes: true,
  },
  {
    name: "a spool without room",
    make: () => {
      const space = async () => ({ freeBytes: 5000, sizeBytes: 10_000, freeInodes: 1 });
      Object.assign(rig.deps.spool, { space });
    },
    about: /^spool$/,
    says: /a snapshot needs 8.0 KiB {2}free space there/,
    check: 2,
  },
];

describe("trouble", () => {
  beforeEach(slot);

  test.each(states)("$name is told by status with what helps, and by check as status $check", async (state) => {
    const before = await document();
    expect(before.troubles).toEqual([]);
    await state.make();
    const { out } = await on("status");
    expect(out).toMatch(state.says);
    expect(out).not.toContain("nothing is wrong");
    if (state.passes) await state.make();
    const { troubles } = await document();
    expect(troubles.filter(({ about }) => state.about.test(about))).not.toEqual([]);
    for (const { help } of troubles) {
      const [, command] = /^etcd-lifeboat ([^;]+)/.exec(help) ?? [];
      // A command that helps exists, with all its flags.
      if (command !== undefined) expect((await say(undefined, ...command.split(" "), "--help")).status).toBe(0);
    }
    if (state.passes) await state.make();
    const check = await on("check");
    expect(check.status, check.out).toBe(state.check);
    expect(check.out).toMatch(/^(OK|WARNING|CRITICAL|UNKNOWN): [^\n|]+ \| [^\n|]*\n$/);
  });
});

test("a schedule without any backup is critical once a slot of it has passed", async () => {
  await rig.passing(say(rig, "backup", "--config", configOf(rig)));
  const rare = `schedules: [{ name: rare, cron: "0 0 29 2 *" }]\n`;
  const { out } = await rig.passing(say(rig, "check", "--config", configOf(rig, rare)));
  expect(out).toMatch(/^CRITICAL: CRITICAL schedule rare: no backup of it is known/);
});

describe("check", () => {
  test("takes other thresholds, and only the schedules that are named", async () => {
    await slot();
    rig.clock.jump(600_000);
    expect((await on("check", "--warning", "5m")).status).toBe(1);
    expect((await on("check", "--critical", "5m")).status).toBe(2);
    expect((await on("check", "hourly", "--warning", "4h", "--critical", "8h")).status).toBe(0);
    expect((await on("check", "--proof-warning", "5m")).status).toBe(1);
    expect((await on("check", "--proof-critical", "5m")).status).toBe(2);
    expect(await on("check", "daily")).toMatchObject({
      status: 3,
      out: expect.stringMatching(/^UNKNOWN: there is no schedule "daily" in .*\n$/) as string,
    });
  });

  test.each([
    [["check", "--warning", "soon"], /^UNKNOWN: --warning "soon" is no duration/],
    [["check", "--frob"], /^UNKNOWN: unknown option '--frob'/],
    [["check", "--config", "/nonexistent/config.yaml"], /^UNKNOWN: .*\/nonexistent\/config\.yaml/],
  ])("%j is UNKNOWN, never CRITICAL by an exit status of another meaning", async (argv, message) => {
    const said = await say(rig, ...argv);
    expect(said.status).toBe(3);
    expect(said.out).toMatch(message);
    expect(said.out.trim().split("\n")).toHaveLength(1);
  });

  test("is UNKNOWN when nothing answers in time", async () => {
    rig.etcd.member("etcd1").delayMs = { members: 60_000 };
    const said = await say(rig, "check", "--timeout", "100ms", "--config", configOf(rig, schedules));
    expect(said).toMatchObject({ status: 3, out: "UNKNOWN: no answer within 100 ms\n" });
  });
});

test("status says what retention would keep and let go, and who does it", async () => {
  for (let hour = 0; hour < 4; hour += 1) {
    await slot();
    rig.clock.jump(hourMs);
  }
  const policy = `${schedules}retention: { last: 1, minProven: 1 }\n`;
  const at = ["--config", configOf(rig, policy)];
  const { out } = await rig.passing(say(rig, "status", ...at));
  expect(out).toMatch(/^retention: 1 backups stay \([^)]+\)$/m);
  expect(out).toMatch(
    /^retention: 3 go next \([^)]+\): 20260301T120000Z\.slot\.hourly, .*; remove them: etcd-lifeboat expire --yes$/m,
  );
  const automatic = ["--config", configOf(rig, policy.replace("minProven: 1", "minProven: 1, expire: true"))];
  expect((await rig.passing(say(rig, "status", ...automatic))).out).toContain("; the daemon removes them\n");
  const json = JSON.parse((await rig.passing(say(rig, "status", "--json", ...automatic))).out) as { retention: object };
  expect(json.retention).toMatchObject({ kept: 1, automatic: true, pinned: 0 });
});

describe("a copy", () => {
  let offsite: MemoryStore;
  beforeEach(async () => {
    offsite = { ...memoryStore(() => rig.clock.now()), description: "memory:offsite" };
    rig.copies.push({ name: "offsite", store: offsite });
    await slot();
  });

  test("that lacks nothing is shown, and nothing is wrong", async () => {
    expect((await on("copy")).status).toBe(0);
    expect((await on("status")).out).toMatch(/^offsite {2}1 {8}0 {10}now {5}memory:offsite$/m);
    expect(await document()).toMatchObject({
      troubles: [],
      copies: [
        {
          name: "offsite",
          backups: 1,
          missing: 0,
          differing: 0,
          schedules: [{ schedule: "hourly", committedAt: expect.stringMatching(/^2026-03-01T12:0/) as string }],
          fault: null,
        },
      ],
    });
    expect(await on("check")).toMatchObject({
      status: 0,
      out: expect.stringContaining("'copy_offsite_missing'=0;;;0;") as string,
    });
  });

  test("that is a few backups behind is not trouble yet, and is later", async () => {
    await on("copy");
    for (let hour = 0; hour < 2; hour += 1) {
      rig.clock.jump(hourMs);
      await slot();
    }
    expect(await document()).toMatchObject({ troubles: [], copies: [{ missing: 2 }] });
    for (let hour = 0; hour < 2; hour += 1) {
      rig.clock.jump(hourMs);
      await slot();
    }
    expect((await on("status")).out).toMatch(
      /^WARNING {2}copy offsite {2}the newest backup of schedule hourly there is 4h 00m older .* {2}etcd-lifeboat copy --store offsite$/m,
    );
    expect((await on("check")).status).toBe(1);
  });

  test.each<readonly [string, () => void, RegExp]>([
    ["that has nothing", () => undefined, /copy offsite: no backup of schedule hourly is there/],
    [
      "that cannot be read",
      () => void offsite.trouble({ method: "read", fail: new Fault("store-unreachable", "memory:offsite is gone") }),
      /copy offsite: memory:offsite is gone/,
    ],
    [
      "that holds another repository",
      () => offsite.objects.set("repository.json", { bytes: foreign(), modifiedMs: 0 }),
      /copy offsite: memory:offsite holds repository/,
    ],
  ])("%s is a warning, and hides nothing of the first store", async (_, make, says) => {
    make();
    const check = await on("check");
    expect(check.status, check.out).toBe(1);
    expect(check.out).toMatch(says);
    expect(check.out).toContain("'backups'=1;");
    expect((await on("status")).out).toMatch(/^RESTORABLE: /);
  });

  /** The same document with another identity. */
  function foreign(): Uint8Array {
    const { bytes } = rig.store.objects.get("repository.json") ?? { bytes: new Uint8Array() };
    const text = Buffer.from(bytes).toString();
    return Buffer.from(text.replace(/"repository":\s*"[^"]+"/, '"repository": "01HZZZZZZZZZZZZZZZZZZZZZZZ"'));
  }
});
