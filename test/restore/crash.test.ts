import { describe, expect, test } from "vitest";
import type { RestoreDependencies } from "../../src/restore/restore.ts";
import type { RunbookPlan } from "../../src/runbook/runbook.ts";
import { deaths, expectNone, instantsOf, machineLosses, tally, troubles } from "./matrix.ts";
import type { ModelOptions } from "./model.ts";

/** Seconds, and a machine that stands still now and then takes many times as long. Every single instant is crash.long.test.ts's. */
const patient = { timeout: 600_000 };

describe("a restore that is killed, at a part of all instants", patient, () => {
  test("of three members is resumed, and is rolled back, and nothing that must hold was ever broken", async () => {
    const options = { members: 3 } as const;
    const instants = await instantsOf(options);
    expect(instants).toBeGreaterThan(500);
    expectNone("three members", instants, await tally(options, deaths(instants, 7, [undefined])));
  });

  test("of one member with a log of its own, also while the host is rebooted or etcd is killed", async () => {
    const options = { members: 1, walDirectory: true } as const;
    const instants = await instantsOf(options);
    expectNone("one member", instants, await tally(options, deaths(instants, 5, troubles)));
  });

  test("when clients are answered only after a rollback was permitted", async () => {
    for (const clientsWait of [14, 30]) {
      const options = { members: 1, clientsWait } as const;
      const instants = await instantsOf(options);
      const last = [...deaths(instants, 2, [undefined])].filter(({ dieAt = 0 }) => dieAt > instants * 0.7);
      expectNone(`clients that wait ${clientsWait} instants`, instants, await tally(options, last));
    }
  });
});

describe("a restore whose machine is lost", patient, () => {
  test("goes on, or is taken back, on another one that has the journal, or all but the line that was being copied", async () => {
    const options = { members: 3 } as const;
    const instants = await instantsOf(options);
    expectNone("another machine", instants, await tally(options, machineLosses(instants, 29, [0, 1])));
  });

  test("goes on by a copy that lacks more only where the hosts do not show that it does", async () => {
    const options = { members: 1, walDirectory: true } as const;
    const instants = await instantsOf(options);
    const { cases, behind, violations } = await tally(options, machineLosses(instants, 7, [2, 4, 9, 30]));
    expect(violations).toEqual([]);
    expect(behind).toBeGreaterThan(50);
    expect(cases - behind).toBeGreaterThan(50);
  });
});

describe("the model notices", patient, () => {
  const move = (plan: RunbookPlan, kind: string, before: string): RunbookPlan => {
    const moved = plan.steps.filter((step) => step.kind === kind);
    const others = plan.steps.filter((step) => step.kind !== kind);
    const at = others.findIndex((step) => step.kind === before);
    return { ...plan, steps: [...others.slice(0, at), ...moved, ...others.slice(at)] };
  };
  const eachHost = (
    deps: RestoreDependencies,
    change: (host: RestoreDependencies["hosts"][number]) => RestoreDependencies["hosts"][number],
  ): RestoreDependencies => ({ ...deps, hosts: deps.hosts.map(change) });

  const planted: readonly (readonly [string, ModelOptions, RegExp])[] = [
    [
      "data that is moved under a running etcd",
      {
        members: 1,
        breakDeps: (deps) =>
          eachHost(deps, (open) => {
            if (open.etcd === undefined) return open;
            const { service } = open.etcd;
            const stop = async (): Promise<void> => await Promise.resolve();
            const state = async (signal: AbortSignal) => ({ ...(await service.state(signal)), running: false });
            const host = { ...open.host, holders: async () => await Promise.resolve([]) };
            return { ...open, host, etcd: { ...open.etcd, service: { ...service, stop, state } } };
          }),
      },
      /was moved under its running etcd/,
    ],
    [
      "API servers that are started before the members are verified",
      { members: 3, breakPlan: (plan) => move(plan, "start-service", "healthy") },
      /before the restored members were verified/,
    ],
    [
      "API servers that run while the data is exchanged",
      {
        members: 3,
        breakPlan: (plan) => {
          const late = move(plan, "stop-service", "start-etcd");
          return { ...late, steps: late.steps.filter(({ kind }) => kind !== "quiet") };
        },
      },
      /while the cluster is half restored/,
    ],
    [
      "revisions that go back",
      {
        members: 3,
        breakPlan: (plan) => {
          const { first } = plan.facts as { first: { why: string } };
          return { ...plan, facts: { ...plan.facts, first: { ...first, revision: "5000", bump: "0" } } };
        },
      },
      /has seen revision \d+, and now sees 50\d\d/,
    ],
    [
      "old data that is removed",
      {
        members: 1,
        breakDeps: (deps) =>
          eachHost(deps, (open) => ({
            ...open,
            host: {
              ...open.host,
              rename: async (from, to, signal) => {
                if (to.includes("before-restore")) await open.host.removeTree(from, signal);
                else await open.host.rename(from, to, signal);
              },
            },
          })),
      },
      /the old data of h1 is gone/,
    ],
    [
      "a hold that does not hold",
      {
        members: 1,
        breakDeps: (deps) =>
          eachHost(deps, (open) => {
            if (open.etcd === undefined) return open;
            const { service } = open.etcd;
            let heldBy: string | undefined;
            const hold = async (operation: string): Promise<void> => {
              heldBy = operation;
              await Promise.resolve();
            };
            const release = async (): Promise<void> => {
              heldBy = undefined;
              await Promise.resolve();
            };
            const lying = {
              ...service,
              hold,
              release,
              state: async (signal: AbortSignal) => ({ ...(await service.state(signal)), heldBy }),
            };
            return { ...open, etcd: { ...open.etcd, service: lying } };
          }),
      },
      /a reboot of h1 would start etcd on nothing/,
    ],
  ];

  test.each(planted)("%s", async (_what, options, expected) => {
    const { violations } = await tally(options, [{ after: "resume" }]);
    expect(violations.join("\n")).toMatch(expected);
  });
});
