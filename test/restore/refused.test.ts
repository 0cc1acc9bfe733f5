import { expect, test } from "vitest";
import { Fault, type FaultCode } from "../../src/faults.ts";
import { acquireLock } from "../../src/repository/lock.ts";
import type { RestoreDependencies } from "../../src/restore/restore.ts";
import { prepareRestore } from "../../src/restore/run.ts";
import type { JsonObject, RunbookPlan } from "../../src/runbook/runbook.ts";
import { describe, request } from "./facts.ts";
import { openModel, openScratch, type Model } from "./model.ts";

/** What a restore refuses, and what it meets on its way: with what helps, its exit status, and nothing touched or everything put back. */

const never = new AbortController().signal;

function expectFault(outcome: unknown, code: FaultCode, exitStatus: number, message: RegExp, hint: RegExp): void {
  expect(outcome).toBeInstanceOf(Fault);
  expect(outcome).toMatchObject({
    code,
    exitStatus,
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });
}

/** It stopped amid changes; both ways out lead somewhere whole. */
async function expectWaysOut(open: () => Promise<Model>, stop: (model: Model) => Promise<void>): Promise<void> {
  for (const after of ["resume", "rollback"] as const) {
    const model = await open();
    await stop(model);
    expect(await model.process(after)).toMatchObject({ kind: after === "resume" ? "done" : "rolled-back" });
    model.mustBe(after === "resume" ? "new" : "old", after === "resume" ? "done" : "rolled-back");
    expect(model.violations).toEqual([]);
  }
}

test("the second of two operators is refused with the name of the first, and touches nothing", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1, repository: true }, scratch.directory);
  const author = { host: "bastion", user: "alice", pid: 7, version: "0.0.0" };
  const held = await acquireLock({ ...model.lock, author }, "restore", false, never, "01JQ0000000000000000000000");
  expect((await model.plansNow()).warnings).toContainEqual(
    expect.stringMatching(/alice.*: as long as that is so, nothing begins$/),
  );
  const before = model.tree();
  const refused = await model.process("run");
  expectFault(refused, "locked", 11, /alice/, /wait until it is done/);
  expect(model.tree()).toEqual(before);
  model.pass();
  expect(model.violations).toEqual([]);
  // It is over: neither this operation nor the other one is in anybody's way.
  expectFault(await model.process("resume"), "runbook-refused", 4, /nothing to resume/, /begin a new one/);
  await held[Symbol.asyncDispose]();
});

test("a lock that was taken away amid changes stops it, and it can be taken up again", async () => {
  using scratch = openScratch();
  await expectWaysOut(
    async () => await openModel({ members: 1, repository: true }, scratch.directory),
    async (model) => {
      const other = { ...model.lock, author: { host: "bastion", user: "alice", pid: 7, version: "0.0.0" } };
      expect(await model.process("run", 200)).toBe("died");
      const resumed = acquireLock(other, "restore", false, never, "01JQ0000000000000000000000");
      await expect(resumed).rejects.toMatchObject({ code: "locked" });
    },
  );
});

test("a plan is stale when anything that it was made of is otherwise, and nothing is touched", async () => {
  using scratch = openScratch();
  const changes: readonly (readonly [string, (model: Model) => void])[] = [
    [
      "an API server was disabled and stopped",
      (model) => {
        const { units, kill } = model.host("h1").systemd;
        kill("kube-apiserver.service");
        const unit = units.get("kube-apiserver.service");
        if (unit !== undefined) unit.enabled = false;
      },
    ],
    ["a member was stopped, and with it the quorum", (model) => model.host("h1").systemd.kill("etcd.service")],
    ["the member's data is gone", (model) => model.host("h1").host.removeTree("/var/lib/etcd/member", never)],
    [
      "a unit is not started at boot any more",
      (model) => void (model.host("h1").systemd.units.get("kube-apiserver.service")!.enabled = false),
    ],
  ];
  const fresh = await openModel({ members: 1 }, scratch.directory);
  await expect(fresh.refuseStalePlan()).resolves.toBeUndefined();
  for (const [what, change] of changes) {
    const model = await openModel({ members: 1 }, scratch.directory);
    change(model);
    await Promise.resolve();
    const before = model.tree();
    const refused: unknown = await model.refuseStalePlan().catch((error: unknown) => error);
    expect(refused, what).toMatchObject({ code: "plan-stale" });
    expectFault(refused, "plan-stale", 4, /not what they were/, /plan again/);
    expect(model.tree()).toEqual(before);
  }
});

test("what would be refused by now is refused, though the plan still fits", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  model.host("h1").host.freeBytes = 1;
  const refused: unknown = await model.refuseStalePlan().catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "restore-refused", exitStatus: 4, message: expect.stringMatching(/h1/) });
});

test("a disk that is full when the new data comes has nothing moved, and takes back what was made ready, the lock too", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 3, repository: true }, scratch.directory);
  const { host } = model.host("h2");
  host.freeBytes = 1;
  const before = model.tree();
  const refused = await model.process("run");
  expect(refused).toBeInstanceOf(Fault);
  expect(refused).toMatchObject({
    code: "restore-refused",
    exitStatus: 4,
    message: expect.stringMatching(/no room.*nothing of the cluster was touched/) as string,
  });
  expect(model.tree()).toEqual(before);
  model.mustBe("old", "rolled-back");
  expect(model.violations).toEqual([]);
});

test("a client that nobody listed is heard, etcd goes on, and nothing is moved", async () => {
  using scratch = openScratch();
  await expectWaysOut(
    async () => await openModel({ members: 3 }, scratch.directory),
    async (model) => {
      model.talk(true);
      const stopped = await model.process("run");
      expectFault(stopped, "runbook-stopped", 5, /somebody still talks to etcd: m1 answered/, /stop that client/);
      expect(model.host("h1").host.tree()["/var/lib/etcd/member/snap/db"]).toMatch(/^old/);
      expect(model.host("h1").systemd.units.get("etcd.service")?.active).toBe("active");
      model.talk(false);
    },
  );
});

test("a hook that lies, saying that it stopped what goes on talking, is not believed", async () => {
  using scratch = openScratch();
  const told: string[] = [];
  const options = {
    members: 1,
    hooks: ["before-stop-api-servers"],
    hook: (phase: string) => void told.push(phase),
  } as const;
  await expectWaysOut(
    async () => await openModel(options, scratch.directory),
    async (model) => {
      model.talk(true);
      expectFault(await model.process("run"), "runbook-stopped", 5, /still talks/, /stop that client/);
      model.talk(false);
    },
  );
  expect(told.length).toBeGreaterThan(0);
});

const clients = ["kube-apiserver.service", "kube-controller-manager.service"] as const;

test("API servers that died with etcd are started after it, and asked whether they are ready, the first one before the others", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 3, failed: ["etcd.service", ...clients] }, scratch.directory);
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
  const at = (label: string): number => model.labels.findIndex((found) => found.startsWith(label));
  const start = (host: string): number => at(`${host} run systemctl start --no-block -- kube-apiserver.service`);
  expect(at("h1 is asked whether it is ready")).toBeGreaterThan(start("h1"));
  expect(start("h2")).toBeGreaterThan(at("h1 is asked whether it is ready"));
});

test("API servers that had died are started by a rollback, too", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1, failed: clients }, scratch.directory);
  expect(await model.process("run", 200)).toBe("died");
  expect(await model.process("rollback")).toMatchObject({ kind: "rolled-back" });
  model.mustBe("old", "rolled-back");
  expect(model.violations).toEqual([]);
});

const stranger = { localPort: 2379, remoteAddress: "10.9.9.9", remotePort: 40_000, pid: undefined };

test("with quorum, a member that runs where it cannot be asked is not taken to be silent", async () => {
  using scratch = openScratch();
  await expectWaysOut(
    async () => await openModel({ members: 3 }, scratch.directory),
    async (model) => {
      model.deafen("m2");
      const { listening } = model.host("h2").host;
      listening.push({ port: 2379, address: "0.0.0.0", pid: undefined });
      const hint = /stop the etcd of m2 on h2 by hand .*then resume, or roll back/;
      expectFault(await model.process("run"), "runbook-stopped", 5, /m2 runs and listens on h2/, hint);
      listening.length = 0;
      // As behind an address that nobody knows: what is written is seen all the same.
      model.talk(true);
      expectFault(await model.process("resume"), "runbook-stopped", 5, /the revision grew from \d+ to \d+/, hint);
      model.talk(false);
      expect(model.host("h1").systemd.units.get("etcd.service")?.active).toBe("active");
      model.deafen();
    },
  );
});

test("that no member answers is no silence while somebody stays connected to one that runs, and it is once nobody does", async () => {
  using scratch = openScratch();
  const hook = (): undefined => {
    model.deafen();
  };
  const model: Model = await openModel({ members: 3, hooks: ["after-stop-etcd"], hook }, scratch.directory);
  model.deafen("m1", "m2", "m3");
  const { connected } = model.host("h3").host;
  connected.push(stranger);
  const stopped = await model.process("run");
  expectFault(stopped, "runbook-stopped", 5, /10\.9\.9\.9:40000 is connected to m3/, /stop the etcd of .*m3 on h3/);
  expect(model.host("h3").systemd.units.get("etcd.service")?.active).toBe("active");
  connected.length = 0;
  expect(await model.process("resume")).toMatchObject({ kind: "done" });
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
});

test("an etcd that is connected to itself is not taken for its client", async () => {
  using scratch = openScratch();
  const hook = (): undefined => {
    model.deafen();
  };
  const model: Model = await openModel({ members: 1, hooks: ["after-stop-etcd"], hook }, scratch.directory);
  model.deafen("m1");
  const { connected } = model.host("h1").host;
  connected.push({ ...stranger, remoteAddress: "127.0.0.1", pid: 7 });
  connected.push({ localPort: 40_000, remoteAddress: "127.0.0.1", remotePort: 2379, pid: 7 });
  expect(await model.process("run")).toMatchObject({ kind: "done" });
});

test("an API server that came back where etcd is dead is seen before anything is moved", async () => {
  using scratch = openScratch();
  const hook = (): undefined => {
    model.host("h1").systemd.start("kube-apiserver.service");
  };
  const options = { members: 1, hooks: ["after-stop-api-servers"], hook, breakDeps: unheld } as const;
  const dead = { failed: ["etcd.service"], acceptRebootRisk: true } as const;
  const model: Model = await openModel({ ...options, ...dead }, scratch.directory);
  const stopped = await model.process("run");
  expectFault(stopped, "runbook-stopped", 5, /before no client talks .* runs again, and must not/, /who started it/);
  expect(model.host("h1").host.tree()["/var/lib/etcd/member/snap/db"]).toMatch(/^old/);
});

test("silence is proven again by a later process for as long as etcd runs", async () => {
  using scratch = openScratch();
  let fails = true;
  const hook = (): undefined => {
    if (fails) throw new Fault("hook-failed", "not today");
  };
  await expectWaysOut(
    async () => await openModel({ members: 3, hooks: ["before-stop-etcd"], hook }, scratch.directory),
    async (model) => {
      fails = true;
      expectFault(await model.process("run"), "runbook-stopped", 5, /not today/, /--resume/);
      fails = false;
      model.talk(true);
      expectFault(await model.process("resume"), "runbook-stopped", 5, /somebody still talks/, /stop that client/);
      expect(model.host("h1").systemd.units.get("etcd.service")?.active).toBe("active");
      model.talk(false);
    },
  );
});

test("an etcd that a reboot started on no data amid the swap is in the way, forward and back, and what helps is said", async () => {
  using scratch = openScratch();
  for (const after of ["resume", "rollback"] as const) {
    const model = await openModel({ members: 1 }, scratch.directory);
    await model.process("run");
    const instant = model.labels.findIndex((label) =>
      /rename \/var\/lib\/etcd\/restore-|rename .*\/member\.restore-/.test(label),
    );
    expect(instant).toBeGreaterThan(0);
    const other = await openModel({ members: 1 }, scratch.directory);
    const struck = other.host("h1").host;
    expect(await other.process("run", instant + 1)).toBe("died");
    await struck.makeDirectory("/var/lib/etcd/member/snap", { mode: 0o700 }, never);
    const expected = /\/member of h1 is there, and the old data is aside/;
    expectFault(await other.process(after), "runbook-stopped", 5, expected, /mv \S+\/member \S+\/started-empty/);
    await struck.rename("/var/lib/etcd/member", "/var/lib/etcd/started-empty", never);
    expect(await other.process(after)).toMatchObject({ kind: after === "resume" ? "done" : "rolled-back" });
    other.mustBe(after === "resume" ? "new" : "old", after === "resume" ? "done" : "rolled-back");
  }
});

test("that somebody talks is told also where nobody can see who", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  model.host("h1").host.connections = () => Promise.reject(new Fault("host-failed", "no /proc"));
  model.talk(true);
  const expected = /still talks to etcd: m1 answered .*who is connected to m1 cannot be seen: no \/proc/;
  expectFault(await model.process("run"), "runbook-stopped", 5, expected, /stop that client/);
});

/** Nothing keeps the API servers from coming back. */
function unheld(deps: RestoreDependencies): RestoreDependencies {
  return {
    ...deps,
    hosts: deps.hosts.map((open) => ({
      ...open,
      services: open.services.map((one) => ({
        ...one,
        service: { ...one.service, canHold: false },
      })),
    })),
  };
}

test("an API server that comes back while the data is exchanged meets no restored member", async () => {
  using scratch = openScratch();
  for (const after of ["resume", "rollback"] as const) {
    let comesBack = true;
    const start = (): undefined => {
      if (comesBack) model.host("h1").systemd.start("kube-apiserver.service");
    };
    const options = { members: 1, hooks: ["before-start-etcd"], hook: start, breakDeps: unheld } as const;
    const model: Model = await openModel({ ...options, acceptRebootRisk: true }, scratch.directory);
    const stopped = await model.process("run");
    expectFault(
      stopped,
      "runbook-stopped",
      5,
      /kube-apiserver on h1 runs again, and must not/,
      /find out who started it/,
    );
    expect(model.host("h1").systemd.units.get("etcd.service")?.active).toBe("inactive");
    comesBack = false;
    expect(await model.process(after)).toMatchObject({ kind: after === "resume" ? "done" : "rolled-back" });
    // That it ran while the data was exchanged is what was done to it here; nobody was answered.
    expect(model.violations.filter((violation) => !violation.includes("while the cluster is half restored"))).toEqual(
      [],
    );
  }
});

test("an etcd that somebody starts while it is stopped has nothing moved under it, forward or back", async () => {
  using scratch = openScratch();
  const unheldEtcd = (deps: RestoreDependencies): RestoreDependencies => ({
    ...deps,
    hosts: deps.hosts.map((open) => ({
      ...open,
      etcd: open.etcd && { ...open.etcd, service: { ...open.etcd.service, canHold: false } },
    })),
  });
  for (const phase of ["after-stop-etcd", "before-start-etcd"] as const) {
    for (const after of ["resume", "rollback"] as const) {
      let comesBack = true;
      const hook = (): undefined => {
        if (!comesBack) return;
        model.host("h1").systemd.start("etcd.service");
        if (phase === "before-start-etcd") throw new Fault("hook-failed", "and the hook fails");
      };
      const options = { members: 1, hooks: [phase], hook, breakDeps: unheldEtcd, acceptRebootRisk: true } as const;
      const model: Model = await openModel(options, scratch.directory);
      const expected = phase === "after-stop-etcd" ? /etcd on h1 runs again/ : /and the hook fails/;
      expect(await model.process("run")).toMatchObject({ message: expect.stringMatching(expected) });
      comesBack = false;
      expect(await model.process(after)).toMatchObject({ kind: after === "resume" ? "done" : "rolled-back" });
      // A reboot would start it: that risk was accepted.
      expect(model.violations.filter((violation) => !violation.includes("a reboot of h1 would start"))).toEqual([]);
    }
  }
});

test("a member that is slow after its start, or amid an election, is waited for", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 3 }, scratch.directory);
  const { member } = model.host("h2");
  let failed = 0;
  const passing = (code: FaultCode) => (): Fault | undefined => {
    // Only the restored one: it has another ID.
    if (member.id === 2n || failed >= 12) return undefined;
    failed += 1;
    return new Fault(code, `m2 did not answer in time`);
  };
  member.fail = {
    members: passing("etcd-timeout"),
    alarms: passing("etcd-unreachable"),
    hashKv: passing("etcd-timeout"),
    status: passing("etcd-refused"),
  };
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  expect(failed).toBe(12);
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
});

test("a member that stays slow stops it after a while that grows with the database", async () => {
  using scratch = openScratch();
  const waitedSeconds = async (dbBytes: number): Promise<number> => {
    const breakPlan = (plan: RunbookPlan): RunbookPlan => {
      const source = plan.facts["source"] as JsonObject;
      return { ...plan, facts: { ...plan.facts, source: { ...source, dbBytes } } };
    };
    const model = await openModel({ members: 1, breakPlan }, scratch.directory);
    const { member } = model.host("h1");
    const slow = new Fault("etcd-timeout", "m1 did not answer HashKV in time");
    member.fail = { hashKv: () => (member.id === 1n ? undefined : slow) };
    const stopped = await model.process("run");
    expectFault(stopped, "runbook-stopped", 5, /in vain until the restored members agree.*HashKV/, /--resume/);
    member.fail = {};
    expect(await model.process("resume")).toMatchObject({ kind: "done" });
    expect(model.violations).toEqual([]);
    return Number(/waited (\d+) s/.exec((stopped as Fault).message)?.[1]);
  };
  expect(await waitedSeconds(0)).toBe(60);
  expect(await waitedSeconds(8_000_000_000)).toBe(460);
});

test("what the builder would refuse is refused by the plan, with what helps", async () => {
  using scratch = openScratch();
  const { deps } = await openModel({ members: 1 }, scratch.directory);
  const hint = "let etcd's own tool build: --builder etcdutl";
  const require = async (): Promise<void> =>
    await Promise.reject(new Fault("datadir-refused", "a bucket lease2 is not known", { hint }));
  const unable = { ...deps, builder: { ...deps.builder, require } };
  const asked = request({ lineage: undefined, acceptUnproven: true });
  const { plan, preflight } = await prepareRestore(unable, asked, [], describe, () => undefined, never);
  expect(plan).toBeUndefined();
  expect(preflight.refusals).toEqual([{ message: "the new data cannot be built: a bucket lease2 is not known", hint }]);
});
