import { describe, expect, test } from "vitest";
import { observeCluster, type ObserveOptions } from "../../src/cluster/observe.ts";
import { Fault } from "../../src/faults.ts";
import { fakeEtcd, type FakeEtcd, type FakeScript } from "../fakes/etcd.ts";
import { calm } from "../snapshot/bytes.ts";

const options: ObserveOptions = { endpoints: [], overrides: new Map(), memberTimeoutMs: 500 };
const three = (changes: Partial<FakeScript> = {}): FakeEtcd =>
  fakeEtcd({ members: [{ name: "etcd1" }, { name: "etcd2" }, { name: "etcd3" }], revision: 70n, ...changes });
const up = (facts: Awaited<ReturnType<typeof observeCluster>>): Record<string, boolean> =>
  Object.fromEntries(facts.members.map(({ name, seen }) => [name, seen.up]));

describe("a look at a cluster", () => {
  test("sees every member itself, the agreed revision, and closes every connection", async () => {
    const etcd = three();
    const facts = await observeCluster(etcd, options, calm);
    expect(up(facts)).toEqual({ etcd1: true, etcd2: true, etcd3: true });
    expect(facts).toMatchObject({ quorum: true, agreedRevision: 70n, highestRevision: 70n, alarms: [], findings: [] });
    expect(etcd.calls.filter((call) => call.startsWith("status")).length).toBeGreaterThanOrEqual(3);
    expect(etcd.open()).toBe(0);
  });

  test("every few seconds leaves out what only a backup needs", async () => {
    const etcd = three();
    const facts = await observeCluster(etcd, { ...options, brief: true }, calm);
    expect(facts).toMatchObject({ quorum: true, v2: { state: "unknown" } });
    expect(etcd.calls.filter((call) => /v2Content|defragmenting/.test(call))).toEqual([]);
    await observeCluster(etcd, options, calm);
    expect(etcd.calls.filter((call) => /v2Content|defragmenting/.test(call)).length).toBeGreaterThan(3);
  });

  test("without reads makes none, and judges the quorum by whom the voters follow", async () => {
    const etcd = three();
    const look = { ...options, brief: true, withoutReads: true };
    const facts = await observeCluster(etcd, look, calm);
    expect(facts).toMatchObject({ quorum: true, agreedRevision: undefined, highestRevision: 70n, alarms: [] });
    etcd.member("etcd2").down = true;
    expect((await observeCluster(etcd, look, calm)).quorum).toBe(true);
    etcd.member("etcd3").status = { leader: 0n };
    expect((await observeCluster(etcd, look, calm)).quorum).toBe(false);
    expect(etcd.calls.filter((call) => /Read/.test(call))).toEqual([]);
  });

  test("refuses a member list that no etcd has, before it connects to anybody in it", async () => {
    const etcd = fakeEtcd({ members: Array.from({ length: 65 }, (_, n) => ({ name: `etcd${n}` })), revision: 1n });
    await expect(observeCluster(etcd, options, calm)).rejects.toMatchObject({
      code: "etcd-refused",
      message: expect.stringContaining("65 members") as string,
    });
    expect(etcd.calls.filter((call) => call.startsWith("status"))).toEqual([]);
  });

  test("tells a member that is down, and goes on", async () => {
    const etcd = three();
    etcd.member("etcd2").down = true;
    const facts = await observeCluster(etcd, options, calm);
    expect(up(facts)).toEqual({ etcd1: true, etcd2: false, etcd3: true });
    expect(facts.quorum).toBe(true);
    expect(facts.findings).toMatchObject([{ about: "member-unreachable", member: "etcd2" }]);
    expect(etcd.open()).toBe(0);
  });

  test("waits for a member that hangs only so long", async () => {
    const etcd = three();
    etcd.member("etcd2").delayMs = { status: 60_000 };
    const facts = await observeCluster(etcd, { ...options, memberTimeoutMs: 30 }, calm);
    expect(facts.members[1]?.seen).toMatchObject({ up: false, fault: { code: "etcd-timeout" } });
  });

  test("finds one address in front of several members, and addresses them through the endpoints", async () => {
    const etcd = three();
    for (const member of etcd.script.members) member.url = "http://front.invalid:2379";
    const front = await observeCluster(etcd, options, calm);
    expect(up(front)).toEqual({ etcd1: true, etcd2: false, etcd3: false });
    expect(front.findings.filter(({ about }) => about === "member-mismatch").map(({ member }) => member)).toEqual([
      "etcd2",
      "etcd3",
    ]);
    expect(front.quorum).toBe(true);
  });

  test("finds a member behind a wrong advertised URL through a configured endpoint, and names the fault", async () => {
    const etcd = three();
    // etcd3 advertises what etcd1 answers; the endpoints know better.
    etcd.script.members.push({ name: "direct", url: "http://10.0.0.3:2379", answeredBy: "etcd3" });
    etcd.member("etcd3").answeredBy = "etcd1";
    const facts = await observeCluster(etcd, { ...options, endpoints: ["http://10.0.0.3:2379"] }, calm);
    const found = facts.members.find(({ name }) => name === "etcd3");
    expect(found?.seen).toMatchObject({ up: true, address: { url: "http://10.0.0.3:2379" }, status: { memberId: 3n } });
    expect(facts.findings).toContainEqual({
      about: "member-mismatch",
      member: "etcd3",
      message: "http://etcd3.invalid:2379, advertised by etcd3, is answered by member 1, not 3",
    });
  });

  test("uses what the configuration says of a member instead of what it advertises", async () => {
    const etcd = three();
    etcd.script.members.push({ name: "real2", url: "http://10.0.0.2:2379", answeredBy: "etcd2" });
    etcd.member("etcd2").answeredBy = "etcd1";
    const overrides = new Map([
      ["etcd2", { url: "http://10.0.0.2:2379", serverName: "cp2", metricsUrl: "http://10.0.0.2:2381" }],
    ]);
    const facts = await observeCluster(etcd, { ...options, overrides }, calm);
    expect(facts.members[1]?.seen).toMatchObject({
      up: true,
      address: { name: "etcd2", url: "http://10.0.0.2:2379", serverName: "cp2", metricsUrl: "http://10.0.0.2:2381" },
    });
    expect(facts.findings.filter(({ member }) => member === "etcd2")).toEqual([]);
  });

  test("sends nothing to an advertised URL without TLS when the endpoints have TLS, unless the configuration says so", async () => {
    const etcd = three();
    for (const { name } of etcd.script.members) etcd.member(name).url = `https://${name}.invalid:2379`;
    // etcd's own default for --advertise-client-urls: whoever listens there on this host would be sent our token.
    etcd.member("etcd2").url = "http://localhost:2379";
    const secure = { ...options, endpoints: ["https://etcd1.invalid:2379"] };
    const facts = await observeCluster(etcd, secure, calm);
    expect(up(facts)).toEqual({ etcd1: true, etcd2: false, etcd3: true });
    expect(facts.findings).toMatchObject([
      {
        about: "member-unreachable",
        member: "etcd2",
        message: expect.stringContaining("http://localhost:2379 has no TLS") as string,
      },
    ]);
    expect(etcd.calls).not.toContain("status etcd2");
    etcd.member("etcd2").url = " HTTP://localhost:2379";
    expect(up(await observeCluster(etcd, secure, calm))).toMatchObject({ etcd2: false });
    etcd.member("etcd2").url = "http://localhost:2379";
    const overrides = new Map([["etcd2", { url: "http://localhost:2379" }]]);
    expect(up(await observeCluster(etcd, { ...secure, overrides }, calm))).toMatchObject({ etcd2: true });
  });

  test("never believes the answer of another cluster", async () => {
    const etcd = three();
    etcd.member("etcd2").status = { clusterId: 666n };
    const facts = await observeCluster(etcd, options, calm);
    expect(facts.members[1]?.seen).toMatchObject({ up: false, fault: { code: "member-mismatch" } });
    expect(facts.findings[0]?.message).toContain("answers for cluster 29a, not 64");
  });

  test("names a member that has never started, once", async () => {
    const etcd = three();
    etcd.script.members.push({ name: "", url: "", down: true });
    const facts = await observeCluster(etcd, options, calm);
    expect(facts.members[3]).toMatchObject({ name: "unstarted member 4", started: false, seen: { up: false } });
    expect(facts.findings).toEqual([
      { about: "member-unstarted", member: "unstarted member 4", message: "unstarted member 4 has never started" },
    ]);
  });

  test("without quorum says so, gives the highest that was told, and does not ask for alarms", async () => {
    const etcd = three({ quorum: false, leader: null });
    etcd.member("etcd3").status = { revision: 75n, raftIndex: 2000n };
    const facts = await observeCluster(etcd, options, calm);
    expect(facts).toMatchObject({ quorum: false, alarms: undefined, highestRevision: 75n, highestRaftIndex: 2000n });
    expect(facts.agreedRevision).toBeUndefined();
    expect(etcd.calls.some((call) => call.startsWith("alarms"))).toBe(false);
  });

  test("asks for alarms only where there may be one: etcd writes each such question into its log", async () => {
    const etcd = three();
    const asked = (): number => etcd.calls.filter((call) => call.startsWith("alarms")).length;
    expect((await observeCluster(etcd, options, calm)).alarms).toEqual([]);
    expect(asked()).toBe(0);
    etcd.script.alarms = [{ memberId: 2n, kind: "NOSPACE" }];
    expect((await observeCluster(etcd, options, calm)).alarms).toEqual(etcd.script.alarms);
    expect(asked()).toBe(1);
    // Before 3.4 the status says nothing of them.
    const old = three({ version: "3.3.25", alarms: [{ memberId: 2n, kind: "NOSPACE" }] });
    for (const member of old.script.members) member.status = { errors: [] };
    expect((await observeCluster(old, options, calm)).alarms).toEqual(old.script.alarms);
  });

  test("does not take a user without rights for a cluster without quorum", async () => {
    const etcd = three();
    const denied = new Fault("etcd-auth", "permission denied");
    for (const member of etcd.script.members) member.fail = { linearizableRead: denied };
    await expect(observeCluster(etcd, options, calm)).rejects.toBe(denied);
    expect(etcd.open()).toBe(0);
  });

  test("asks no learner for what it cannot answer", async () => {
    const etcd = three();
    etcd.script.members.unshift({ name: "learner", learner: true, id: 9n });
    const facts = await observeCluster(etcd, options, calm);
    expect(up(facts)).toMatchObject({ learner: true });
    expect(etcd.calls).not.toContain("linearizableRead learner");
    expect(facts.quorum).toBe(true);
  });

  test("is aborted at once, with the caller's reason", async () => {
    const etcd = three();
    for (const member of etcd.script.members) member.delayMs = { status: 60_000 };
    const controller = new AbortController();
    const looking = observeCluster(etcd, options, controller.signal);
    const stop = new Fault("interrupted", "stop");
    setTimeout(() => controller.abort(stop), 10);
    await expect(looking).rejects.toBe(stop);
    expect(etcd.open()).toBe(0);
  });
});
