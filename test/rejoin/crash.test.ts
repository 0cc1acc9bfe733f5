import { expect, test } from "vitest";
import type { Clock } from "../../src/clock.ts";
import { executeRejoin, prepareRejoin } from "../../src/rejoin/run.ts";
import type { HostDependencies } from "../../src/restore/restore.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import type { Outcome, RunbookMode } from "../../src/runbook/runbook.ts";
import { joinByEnvironmentFile } from "../../src/service/joining.ts";
import type { Service } from "../../src/service/service.ts";
import { Fault, isFault } from "../../src/faults.ts";
import { fakeEtcd, type FakeMember } from "../fakes/etcd.ts";
import { fakeHost } from "../fakes/host.ts";
import { refuseBehind } from "../../src/restore/behind.ts";
import type { Journals } from "../../src/runbook/journal.ts";
import { fakeJournals } from "../fakes/journal.ts";

/** One member's way out and in again on a cluster in memory, killed at every instant at which it touches or writes down anything. */

const never = new AbortController().signal;
const id = "01JQ000000000000000000000Z";
const data = "/var/lib/etcd";
const wal = "/wal/etcd";
const environmentFile = "/etc/default/etcd";
const before = "ETCD_NAME=m2\nETCD_INITIAL_CLUSTER_STATE=new\n";
const peerUrl = "http://m2.invalid:2380";

/** The process died here. */
class Death extends Error {}

interface ModelOptions {
  readonly walDirectory: boolean;
  /** Its etcd runs when it begins. */
  readonly runs: boolean;
  readonly version: string;
  /** Breaks what is tested, so that the model is seen to notice. */
  readonly forgets?: boolean;
  /** Another member that never answers. */
  readonly away?: string;
}

async function openModel({ walDirectory, runs, version, forgets, away }: ModelOptions) {
  const violations: string[] = [];
  const old: FakeMember = { name: "m2", id: 2n, down: !runs };
  const etcd = fakeEtcd({
    members: [
      { name: "m1", id: 1n },
      old,
      { name: "m3", id: 3n },
      ...(away === undefined
        ? []
        : [
            { name: "m4", id: 4n },
            { name: away, id: 5n, down: true },
          ]),
    ],
    version,
    revision: 50n,
  });
  const host = fakeHost("h2");
  const write = async (path: string, text: string): Promise<void> => {
    await host.makeDirectory(path.slice(0, path.lastIndexOf("/")), { mode: 0o700 }, never);
    await host.writeFile(path, new TextEncoder().encode(text), { mode: 0o600 }, never);
  };
  await write(`${data}/member/snap/db`, "old data");
  const log = walDirectory ? wal : `${data}/member/wal`;
  await write(`${log}/0000000000000000-0000000000000000.wal`, "old log");
  await write(environmentFile, before);

  let instants = 0;
  let dieAt = Infinity;
  let dead = false;
  /** A place where the process can die: before whatever it does there. */
  const instant = (): void => {
    const files = Object.values(host.tree());
    if (!files.includes("old data") || !files.includes("old log")) violations.push("something old is gone");
    instants += 1;
    if (instants >= dieAt) dead = true;
    if (dead) throw new Death();
  };
  host.onCall = (method) => {
    if (/^(?:rename|writeFile|removeFile|removeTree|makeDirectory)$/.test(method)) instant();
  };

  let running = runs;
  let heldBy: string | undefined;
  const memberThere = (): boolean => Object.keys(host.tree()).includes(`${data}/member/snap/db`);
  const start = async (): Promise<void> => {
    instant();
    if (heldBy !== undefined) throw new Fault("service-held", "held");
    running = true;
    if (memberThere()) {
      const own = etcd.script.members.find(({ name }) => name === "m2");
      if (own === undefined) violations.push("what was removed was started with its old data");
      else own.down = false;
      return;
    }
    const settings = host.tree()[environmentFile] ?? "";
    if (
      !settings.includes("existing") ||
      !settings.includes(`m1=http://m1.invalid:2380`) ||
      !settings.includes(`m2=${peerUrl}`)
    )
      violations.push(`an empty member was started as a new cluster: ${settings}`);
    const added = etcd.script.members.find(({ peerUrls }) => peerUrls?.includes(peerUrl));
    if (added === undefined) return void violations.push("an empty member was started that nobody added");
    Object.assign(added, { name: "m2", down: false });
    const alive = host.onCall;
    host.onCall = () => undefined;
    await write(`${data}/member/snap/db`, "new data");
    host.onCall = alive;
  };
  const joining = joinByEnvironmentFile(host, {
    name: "etcd",
    path: environmentFile,
    stateDirectory: "/var/lib/ours",
    check: async () => undefined,
    start,
  });
  const service: Service = {
    name: "etcd",
    role: "etcd",
    description: "in memory",
    canHold: true,
    holdStops: false,
    joining: forgets === true ? { ...joining, prepare: async () => undefined } : joining,
    state: async () => ({
      running,
      pids: [],
      heldBy,
      boots: heldBy === undefined ? "yes" : "no",
      detail: running ? "runs" : "does not run",
      holdBegun: undefined,
      needsReload: false,
      restarts: undefined,
    }),
    async hold(operation) {
      instant();
      heldBy = operation;
    },
    async stop() {
      instant();
      running = false;
      const own = etcd.script.members.find(({ name }) => name === "m2");
      if (own !== undefined) own.down = true;
    },
    async release() {
      instant();
      heldBy = undefined;
    },
    start,
  };
  let elapsedMs = 0;
  const clock: Clock = {
    now: () => elapsedMs,
    elapsed: () => elapsedMs,
    sleep: async (ms) => void (elapsedMs += ms),
  };
  const deps: HostDependencies = {
    cluster: "prod",
    etcd,
    observe: {
      endpoints: ["http://m1.invalid:2379"],
      overrides: new Map(),
      memberTimeoutMs: 1000,
    },
    hosts: [
      {
        host,
        etcd: { member: "m2", service, dataDirectory: data, walDirectory: walDirectory ? wal : undefined },
        services: [],
      },
    ],
    repository: undefined,
    hook: async () => undefined,
    clock,
    emit: (event) => void told.push(event),
    failpoint: instant,
    patienceMs: 10_000,
  };
  let journals: Journals = fakeJournals(() => instant());
  let created = false;
  const told: LifeboatEvent[] = [];
  let ended: Outcome | undefined;
  return {
    violations,
    instants: () => instants,
    told,
    results: () => ended?.results,
    /** Another machine has a copy of the journal that lacks its last lines: whether it goes on by it. */
    async loseMachine(lines: number): Promise<boolean> {
      [instants, dieAt, dead] = [0, Infinity, false];
      if ((await journals.list(never)).length === 0) return true;
      const record = await journals.read(id, never);
      const copy = { ...record, entries: record.entries.slice(0, Math.max(0, record.entries.length - lines)) };
      try {
        await refuseBehind(copy, deps, never);
      } catch (error) {
        if (isFault(error, "journal-behind")) return false;
        throw error;
      }
      journals = fakeJournals(() => instant(), copy);
      return true;
    },
    /** Runs it in a process of its own; undefined when it died. */
    async process(mode: RunbookMode, dies = Infinity): Promise<string | undefined> {
      [instants, dieAt, dead] = [0, dies, false];
      try {
        if (!created) {
          const request = { id, member: "m2", acceptRebootRisk: false, repository: undefined };
          const { plan, verdict } = await prepareRejoin(deps, request, never);
          expect(verdict.refusals).toEqual([]);
          await using _begun = await journals.create(plan!, never);
          created = true;
        }
        await using journal = await journals.open(id, never);
        ended = await executeRejoin(deps, journal, mode, async () => undefined, never);
        return ended.kind;
      } catch (error) {
        if (dead) return undefined;
        if (isFault(error)) return error.code;
        throw error;
      }
    },
    mustBe(end: "joined" | "as before"): void {
      const tree = host.tree();
      const told = etcd.script.members.map(({ id: own, name, learner }) => `${own ?? 0n} ${name} ${learner === true}`);
      const expected =
        end === "joined" ? ["1 m1 false", "3 m3 false", "4 m2 false"] : ["1 m1 false", "2 m2 false", "3 m3 false"];
      const found = {
        told: told.toSorted(),
        running,
        heldBy,
        settings: tree[environmentFile],
        kept: Object.keys(tree).filter((path) => path.startsWith("/var/lib/ours/joining/")),
        data: tree[`${data}/member/snap/db`],
      };
      const wanted = {
        told: expected,
        running: end === "joined" ? true : runs,
        heldBy: undefined,
        settings: before,
        kept: [],
        data: end === "joined" ? "new data" : "old data",
      };
      if (JSON.stringify(found) !== JSON.stringify(wanted)) violations.push(`${JSON.stringify(found)} is not ${end}`);
    },
  };
}

const cases: readonly ModelOptions[] = [
  { walDirectory: false, runs: true, version: "3.6.0" },
  { walDirectory: true, runs: false, version: "3.3.27" },
];

test("the model notices an empty member that begins a cluster of its own", async () => {
  const model = await openModel({ walDirectory: false, runs: true, version: "3.6.0", forgets: true });
  await model.process("run");
  expect(model.violations.join()).toContain("an empty member was started as a new cluster");
});

test("a member that stays away is waited for, and then named as one that was not compared", async () => {
  const model = await openModel({ walDirectory: false, runs: true, version: "3.6.0", away: "m5" });
  expect(await model.process("run")).toBe("done");
  expect(model.results()?.get("agreed")).toMatchObject({ members: ["m1", "m3", "m4", "m2"], notAsked: ["m5"] });
  expect(model.told).toContainEqual(
    expect.objectContaining({ name: "warning", message: expect.stringMatching(/^m5 did not answer/) }),
  );
  const whole = await openModel({ walDirectory: false, runs: true, version: "3.6.0" });
  expect(await whole.process("run")).toBe("done");
  expect(whole.results()?.get("agreed")).toMatchObject({ notAsked: [] });
});

test.each(cases)("killed at every instant, it is resumed and is rolled back ($version)", async (options) => {
  const whole = await openModel(options);
  expect(await whole.process("run")).toBe("done");
  whole.mustBe("joined");
  expect(whole.violations).toEqual([]);
  const tally = { crashes: 0, back: 0, late: 0, violations: [] as string[] };
  for (let dieAt = 1; dieAt <= whole.instants(); dieAt += 1) {
    for (const after of ["resume", "rollback"] as const) {
      // And of every second one once more on the way back or forth.
      for (const again of [dieAt % 2 === 0 ? Infinity : 3]) {
        const model = await openModel(options);
        expect(await model.process("run", dieAt)).toBeUndefined();
        await model.process(after, again);
        let end = await model.process(after);
        if (end === "rollback-too-late") {
          tally.late += 1;
          end = await model.process("resume");
        }
        // What had changed nothing when it died is begun anew, and there is nothing to resume.
        if (end === "rolled-back" || end === "runbook-refused") model.mustBe("as before");
        else if (end === "done") model.mustBe("joined");
        else model.violations.push(`it ended as ${end ?? "dead"}`);
        if (end === "rolled-back") tally.back += 1;
        tally.crashes += 1;
        tally.violations.push(...model.violations.map((what) => `${after} after ${dieAt}, ${again}: ${what}`));
      }
    }
  }
  expect(tally.violations.slice(0, 5)).toEqual([]);
  expect(tally.back).toBeGreaterThan(20);
  expect(tally.late).toBeGreaterThan(20);
  console.log(
    `etcd ${options.version}: ${whole.instants()} instants, ${tally.crashes} crashes, ${tally.late} rollbacks too late, 0 violations`,
  );
});

test("killed with its machine, another one goes on by a copy of the journal, or sees that the copy lacks what was done", async () => {
  const [options] = cases;
  if (options === undefined) throw new Error("there are no cases");
  const whole = await openModel(options);
  expect(await whole.process("run")).toBe("done");
  const violations: string[] = [];
  let refused = 0;
  let crashes = 0;
  for (let dieAt = 1; dieAt <= whole.instants(); dieAt += 2) {
    for (const lacks of [0, 1, 3, 9]) {
      for (const after of ["resume", "rollback"] as const) {
        const model = await openModel(options);
        await model.process("run", dieAt);
        crashes += 1;
        const about = `${after} after ${dieAt}, on a machine that lacks ${lacks} lines`;
        if (!(await model.loseMachine(lacks))) {
          refused += 1;
          if (lacks === 0) violations.push(`${about}: nothing was lacking`);
          continue;
        }
        let end = await model.process(after);
        if (end === "rollback-too-late") end = await model.process("resume");
        if (end === "rolled-back" || end === "runbook-refused") model.mustBe("as before");
        else if (end === "done") model.mustBe("joined");
        else model.violations.push(`it ended as ${end ?? "dead"}`);
        violations.push(...model.violations.map((what) => `${about}: ${what}`));
      }
    }
  }
  expect(violations.slice(0, 5)).toEqual([]);
  expect(refused).toBeGreaterThan(20);
  console.log(`${crashes} crashes with the machine, ${refused} copies refused, 0 violations`);
});
