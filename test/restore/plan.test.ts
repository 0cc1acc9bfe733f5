import { expect, test } from "vitest";
import { judgeRestore } from "../../src/restore/gates.ts";
import { fingerprint, planRestore } from "../../src/restore/plan.ts";
import type { RunbookPlan } from "../../src/runbook/runbook.ts";
import { describe, etcdOn, hostOf, liveFacts, request, restoreFacts, service, sourceFacts } from "./facts.ts";

function plan(facts: Parameters<typeof restoreFacts>[0] = {}, asked: Parameters<typeof request>[0] = {}): RunbookPlan {
  const seen = restoreFacts(facts);
  return planRestore(seen, request(asked), judgeRestore(seen, request(asked), describe));
}

function ids({ steps }: RunbookPlan): readonly string[] {
  return steps.map(({ id, group }) => (group === undefined ? id : `${id} (${group})`));
}

test("API servers are stopped first and started last, controllers around them, etcd in between", () => {
  expect(ids(plan())).toMatchInlineSnapshot(`
    [
      "lock",
      "fetch",
      "build",
      "safety-backup (place)",
      "place.h1 (place)",
      "place.h2 (place)",
      "place.h3 (place)",
      "stop.h1.kube-controller-manager (stop-controller-0)",
      "stop.h2.kube-controller-manager (stop-controller-0)",
      "stop.h3.kube-controller-manager (stop-controller-0)",
      "stop.h1.kube-apiserver (stop-api-server-0)",
      "stop.h2.kube-apiserver (stop-api-server-0)",
      "stop.h3.kube-apiserver (stop-api-server-0)",
      "quiet",
      "stop-etcd.h1 (stop-etcd)",
      "stop-etcd.h2 (stop-etcd)",
      "stop-etcd.h3 (stop-etcd)",
      "revision",
      "lineage",
      "swap.h1 (swap)",
      "swap.h2 (swap)",
      "swap.h3 (swap)",
      "start-etcd.h1 (start-etcd)",
      "start-etcd.h2 (start-etcd)",
      "start-etcd.h3 (start-etcd)",
      "healthy",
      "start.h1.kube-apiserver",
      "start.h2.kube-apiserver (start-api-server-0)",
      "start.h3.kube-apiserver (start-api-server-0)",
      "start.h1.kube-controller-manager (start-controller-0)",
      "start.h2.kube-controller-manager (start-controller-0)",
      "start.h3.kube-controller-manager (start-controller-0)",
      "first-backup",
      "unlock",
    ]
  `);
});

test("what can fail without touching the cluster comes before the first service is stopped", () => {
  const { steps } = plan();
  const firstStop = steps.findIndex(({ kind }) => kind === "stop-service");
  const kinds = new Set(steps.slice(0, firstStop).map(({ kind }) => kind));
  expect(kinds).toEqual(new Set(["lock", "fetch", "build", "safety-backup", "place"]));
});

test("what is stopped must stay so until it is started again, each by its own step", () => {
  const { steps } = plan();
  const stopped = steps.filter(({ kind }) => kind === "stop-service" || kind === "stop-etcd");
  expect(stopped).toHaveLength(9);
  for (const { id, holdsUntil } of stopped) {
    expect(holdsUntil).toBe(id.replace(/^stop/, "start"));
    expect(steps.some((step) => step.id === holdsUntil)).toBe(true);
  }
});

test("every step is its own", () => {
  const all = plan().steps.map(({ id }) => id);
  expect(new Set(all).size).toBe(all.length);
});

test("the lineage is registered before the first restored member starts, and after the old ones are stopped", () => {
  const order = plan().steps.map(({ kind }) => kind);
  expect(order.lastIndexOf("stop-etcd")).toBeLessThan(order.indexOf("lineage"));
  expect(order.indexOf("lineage")).toBeLessThan(order.indexOf("start-etcd"));
});

test("hooks that are configured run in their places, and no others", () => {
  const order = ids(plan({}, { hooks: ["before-stop-api-servers", "after-start-etcd"] }));
  expect(order.filter((id) => id.startsWith("hook."))).toEqual([
    "hook.before-stop-api-servers",
    "hook.after-start-etcd",
  ]);
  expect(order.indexOf("hook.before-stop-api-servers")).toBeLessThan(order.findIndex((id) => id.startsWith("stop.")));
  // What it does with the new members must not happen to unverified ones.
  expect(order.indexOf("hook.after-start-etcd")).toBe(order.indexOf("healthy") + 1);
});

test("a cluster without API servers has no steps for them", () => {
  const hosts = [hostOf("h1", "m1", { services: [] })];
  const [only] = liveFacts().members;
  const order = ids(plan({ hosts, live: liveFacts({ members: [only!] }) }));
  expect(order.filter((id) => /^(?:stop|start)\./.test(id))).toEqual([]);
});

test("hooks that stop and start API servers which nobody has described run all the same", () => {
  const hosts = [hostOf("h1", "m1", { services: [] })];
  const [only] = liveFacts().members;
  const hooks = ["before-stop-api-servers", "after-stop-api-servers", "before-start-api-servers"] as const;
  const order = ids(plan({ hosts, live: liveFacts({ members: [only!] }) }, { hooks }));
  const places = [...hooks.slice(0, 2).map((hook) => `hook.${hook}`), "quiet", "healthy", `hook.${hooks[2]}`];
  expect(order.filter((id) => places.includes(id))).toEqual(places);
});

test("without a repository nothing is locked, registered or backed up", () => {
  const kinds = new Set(plan({}, { lineage: undefined }).steps.map(({ kind }) => kind));
  for (const kind of ["lock", "unlock", "lineage", "safety-backup", "first-backup"]) expect(kinds).not.toContain(kind);
});

test("a dead cluster has nothing left to back up", () => {
  expect(plan({ live: undefined }).steps.some(({ kind }) => kind === "safety-backup")).toBe(false);
});

test("a service that is disabled and did not run is held too, and is left as it was found", () => {
  const [first, ...others] = restoreFacts().hosts;
  const hosts = [
    { ...first!, services: [service("standby", "controller", { running: false, boots: "no" })] },
    ...others,
  ];
  const { steps } = plan({ hosts });
  expect(steps.find(({ id }) => id === "stop.h1.standby")?.args).toMatchObject({ wasRunning: false, runs: false });
  expect(steps.find(({ id }) => id === "start.h1.standby")?.title).toContain("not running");
});

test("API servers that died with etcd are started and asked, the first of them alone; only what is disabled is not", () => {
  const dead = (boots: "yes" | "no" | "unknown") => [
    service("kube-apiserver", "api-server", { running: false, boots }),
  ];
  const hosts = (["no", "yes", "unknown"] as const).map((boots, index) =>
    hostOf(`h${index + 1}`, `m${index + 1}`, { services: dead(boots) }),
  );
  const starts = plan({ hosts }).steps.filter(({ kind }) => kind === "start-service");
  expect(starts.map(({ host, group, args }) => [host, group, args["runs"]])).toEqual([
    ["h1", "start-api-server-0", false],
    ["h2", undefined, true],
    ["h3", "start-api-server-0", true],
  ]);
  expect(starts[1]?.title).toBe("kube-apiserver on h2 runs and is ready");
});

test("a title promises readiness only where it is asked", () => {
  const unseen = hostOf("h1", "m1", { services: [service("kube-apiserver", "api-server", { tellsReady: false })] });
  const { steps } = plan({ hosts: [unseen, ...restoreFacts().hosts.slice(1)] });
  expect(steps.find(({ id }) => id === "start.h1.kube-apiserver")?.title).toBe("kube-apiserver on h1 runs");
});

test("what falls over again and again while etcd is dead does not make a plan stale, and what is disabled meanwhile does", () => {
  const seen = (running: boolean, boots: "yes" | "no"): string => {
    const one = hostOf("h1", "m1", { services: [service("kube-apiserver", "api-server", { running, boots })] });
    return JSON.stringify(fingerprint(restoreFacts({ hosts: [one] })));
  };
  expect(seen(false, "yes")).toBe(seen(true, "yes"));
  expect(seen(false, "no")).not.toBe(seen(true, "no"));
});

test("a plan is a value: it survives JSON, and is the same for the same facts", () => {
  expect(JSON.parse(JSON.stringify(plan()))).toEqual(plan());
});

test("the fingerprint sees members and hosts change, and not the revision", () => {
  const then = JSON.stringify(fingerprint(restoreFacts()));
  expect(JSON.stringify(fingerprint(restoreFacts({ live: liveFacts({ highestRevision: 10_000n }) })))).toBe(then);
  expect(JSON.stringify(fingerprint(restoreFacts({ live: liveFacts({ clusterId: 1n }) })))).not.toBe(then);
  expect(JSON.stringify(fingerprint(restoreFacts({ live: undefined })))).not.toBe(then);
  expect(JSON.stringify(fingerprint(restoreFacts({ hosts: [hostOf("h1", "m1")] })))).not.toBe(then);
});

test("the fingerprint sees a member that was replaced, one that moved, and for a survivor one that is back", () => {
  const of = (changes: Partial<ReturnType<typeof liveFacts>["members"][number]>, kind: "backup" | "member"): string => {
    const live = liveFacts();
    const members = live.members.map((member, index) => (index === 1 ? { ...member, ...changes } : member));
    return JSON.stringify(fingerprint(restoreFacts({ source: sourceFacts({ kind }), live: { ...live, members } })));
  };
  for (const kind of ["backup", "member"] as const) {
    expect(of({ id: 9n }, kind)).not.toBe(of({}, kind));
    expect(of({ peerUrls: ["https://elsewhere.example:2380"] }, kind)).not.toBe(of({}, kind));
  }
  expect(of({ up: false }, "member")).not.toBe(of({}, "member"));
  expect(of({ up: false }, "backup")).toBe(of({}, "backup"));
});

test("members whose machines are other ones are looked at where the configuration says, and nowhere else", () => {
  const hosts = [hostOf("h1", "m1", { etcd: etcdOn("m1", { peerUrls: ["https://new.example:2380"] }) })];
  const [only] = sourceFacts().members;
  const source = sourceFacts({ members: [only!] });
  const { facts } = plan({ hosts, source, live: undefined, endpoints: ["https://new.example:2379"] });
  expect(facts).toMatchObject({
    members: [{ name: "m1", peerUrls: ["https://new.example:2380"] }],
    clientUrls: [{ name: "m1", urls: [] }],
  });
  const stayed = plan({ hosts: [hostOf("h1", "m1")], source, live: undefined }).facts;
  expect(stayed).toMatchObject({ clientUrls: [{ name: "m1", urls: ["https://m1.example:2379"] }] });
});
