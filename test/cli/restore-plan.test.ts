import { expect, test } from "vitest";
import { describeRestore, documentRestore } from "../../src/cli/restore-plan.ts";
import { formatBytes, formatDuration, formatTime } from "../../src/format.ts";
import type { HostFacts, RestoreFacts } from "../../src/restore/facts.ts";
import { judgeRestore } from "../../src/restore/gates.ts";
import { planRestore } from "../../src/restore/plan.ts";
import type { PreparedRestore } from "../../src/restore/run.ts";
import { etcdOn, hostOf, liveFacts, nowMs, request, restoreFacts, service, sourceFacts } from "../restore/facts.ts";

/** What an operator reads at 3 a.m., whole: three hosts whose etcd, API server and controllers are static pods. */

const describe = { bytes: formatBytes, time: formatTime, duration: formatDuration };
const manifests = "/etc/kubernetes/manifests";

const pod = (name: string, role: Parameters<typeof service>[1], changes: Parameters<typeof service>[2] = {}) =>
  service(name, role, { way: `static pod ${name} of ${manifests}`, ...changes });

function podsOn(number: number, changes: Parameters<typeof hostOf>[2] = {}): HostFacts {
  return hostOf(`cp${number}`, `m${number}`, {
    etcd: etcdOn(`m${number}`, { service: pod("etcd", "etcd") }),
    services: [
      pod("kube-controller-manager", "controller", { tellsReady: false }),
      pod("kube-scheduler", "controller", { tellsReady: false }),
      pod("kube-apiserver", "api-server"),
    ],
    ...changes,
  });
}

function prepared(
  changes: Partial<RestoreFacts>,
  asked: Parameters<typeof request>[0] = {},
): Pick<PreparedRestore, "facts" | "preflight" | "plan"> {
  const facts = restoreFacts({ hosts: [podsOn(1), podsOn(2), podsOn(3)], ...changes });
  const preflight = judgeRestore(facts, request(asked), describe);
  const plan = preflight.refusals.length > 0 ? undefined : planRestore(facts, request(asked), preflight);
  return { facts, preflight, plan };
}

test("a plan says first what is lost, then to what the cluster goes back, for how long and where, and then each step", async () => {
  const plan = prepared({});
  await expect(describeRestore(plan, false)).toMatchFileSnapshot("golden/restore-plan.txt");
  await expect(`${JSON.stringify(documentRestore(plan), null, 2)}\n`).toMatchFileSnapshot("golden/restore-plan.json");
});

test("with quorum lost, a newer survivor is offered before anything else, and every warning stands before the steps", async () => {
  const live = liveFacts();
  const wounded: Partial<RestoreFacts> = {
    hosts: [
      podsOn(1, { services: [pod("kube-apiserver", "api-server", { running: false, tellsReady: false })] }),
      podsOn(2, { etcd: etcdOn("m2", { service: pod("etcd", "etcd", { running: false }), hasMember: false }) }),
      podsOn(3, {
        etcd: etcdOn("m3", { service: pod("etcd", "etcd"), walDirectory: "/var/lib/etcd-wal", sameDisk: false }),
        services: [pod("kube-apiserver", "api-server", { running: false, boots: "no" })],
      }),
    ],
    live: {
      ...live,
      quorum: false,
      members: live.members.map((member, index) =>
        index === 0 ? member : { ...member, up: false, version: undefined, revision: undefined },
      ),
    },
    source: sourceFacts({
      unproven: "no member was compared with it",
      passedOver: "20261121T113000Z.slot.hourly",
      takenMs: nowMs - 26 * 3_600_000,
      authEnabled: true,
      leases: 3,
      alarms: [{ memberId: 0x1234n, kind: "NOSPACE" }],
      serverVersion: "3.5.33",
      storageVersion: undefined,
      clusterVersion: "3.5.0",
    }),
    lockedOut: "the lock is held by etcd-lifeboat of ops1",
    login: {
      username: "root",
      by: "password",
      passwordFile: undefined,
      proof: { verdict: "accepted", roots: ["root"], authRevision: 12n },
    },
  };
  const plan = prepared(wounded, { acceptUnproven: true, hooks: ["before-stop-api-servers", "after-start-etcd"] });
  await expect(describeRestore(plan, false)).toMatchFileSnapshot("golden/restore-plan-warnings.txt");
});

test("what refuses a restore is the last that is read, each with what helps, and no step is shown", async () => {
  const wrong = prepared({
    hosts: [
      podsOn(1, {
        fault: `${manifests} on cp1 has two manifests of the pod etcd: etcd.yaml and etcd.yaml.bak`,
        remedy: "the kubelet runs both, whatever their names end with; move one of them out of the directory",
        etcd: undefined,
        services: [],
      }),
      podsOn(2, {
        etcd: etcdOn("m2", {
          service: pod("etcd", "etcd"),
          freeBytes: 2 ** 29,
          settings: {
            from: `${manifests}/etcd.yaml`,
            name: "m2",
            data: { inside: "/var/lib/etcd", onHost: "/srv/etcd", isConfigured: false },
            wal: undefined,
            forceNewCluster: true,
          },
        }),
      }),
      podsOn(3),
    ],
    source: sourceFacts({ unproven: "members could not be compared with it, or disagreed" }),
  });
  await expect(describeRestore(wrong, false)).toMatchFileSnapshot("golden/restore-plan-refused.txt");
  expect(documentRestore(wrong)).toMatchObject({ plan: null, expectedAwayMs: null });
});
