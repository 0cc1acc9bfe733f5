import { describe, expect, test } from "vitest";
import { probeMember, type MemberProbe } from "../../src/cluster/probe.ts";
import { systemClock } from "../../src/clock.ts";
import { Fault } from "../../src/faults.ts";
import { fakeEtcd, type FakeEtcd, type FakeMember } from "../fakes/etcd.ts";
import { calm } from "../snapshot/bytes.ts";

const certificate = { subject: "CN=etcd1", notBeforeMs: 1, notAfterMs: 2, names: ["etcd1"] };
const one = (member: Partial<FakeMember> = {}): FakeEtcd =>
  fakeEtcd({ members: [{ name: "etcd1", certificate, ...member }, { name: "etcd2" }], revision: 70n });

function probe(etcd: FakeEtcd, callTimeoutMs = 50): Promise<MemberProbe> {
  const expected = { clusterId: 100n, memberId: 1n };
  return probeMember(etcd, etcd.address("etcd1"), systemClock, { expected, callTimeoutMs }, calm);
}

const taken = ({ calls }: MemberProbe): Record<string, boolean> =>
  Object.fromEntries(calls.map(({ method, durationMs }) => [method, durationMs !== undefined]));

describe("a probe of one member", () => {
  test("measures each kind of call, and brings its certificate and its own metrics", async () => {
    const etcd = one();
    const found = await probe(etcd);
    expect(taken(found)).toEqual({ status: true, range_serializable: true, range_linearizable: true });
    for (const { durationMs } of found.calls) expect(durationMs).toBeGreaterThanOrEqual(0);
    expect(found).toMatchObject({ status: { revision: 70n }, certificate, server: { leaderChanges: 1 } });
    expect(etcd.open()).toBe(0);
    // Nobody else was asked.
    expect(etcd.calls.filter((call) => call.endsWith("etcd2"))).toEqual([]);
  });

  test("without reads makes none", async () => {
    const etcd = one();
    const options = { expected: { clusterId: 100n, memberId: 1n }, callTimeoutMs: 50, withoutReads: true };
    const found = await probeMember(etcd, etcd.address("etcd1"), systemClock, options, calm);
    expect(taken(found)).toEqual({ status: true });
    expect(found).toMatchObject({ status: { revision: 70n }, certificate, server: { leaderChanges: 1 } });
    expect(etcd.calls.filter((call) => /Read/.test(call))).toEqual([]);
  });

  test("a call that hangs is given up, and the others are made all the same", async () => {
    const etcd = one({ delayMs: { linearizableRead: 60_000, serverMetrics: 60_000 } });
    const found = await probe(etcd);
    expect(taken(found)).toEqual({ status: true, range_serializable: true, range_linearizable: false });
    expect(found.calls.at(-1)).toMatchObject({ fault: { code: "etcd-timeout" } });
    expect(found.server).toBe(undefined);
    expect(found.certificate).toEqual(certificate);
    expect(etcd.open()).toBe(0);
  });

  test("of a member that does not answer at all only that is known, after one timeout", async () => {
    const etcd = one({ delayMs: { status: 60_000 } });
    const found = await probe(etcd);
    expect(found).toMatchObject({ status: undefined, certificate: undefined, server: undefined });
    expect(taken(found)).toEqual({ status: false });
    expect(etcd.calls).toEqual(["status etcd1"]);
  });

  test("a certificate that is refused is looked at", async () => {
    const etcd = one({ fail: { status: new Fault("etcd-tls", "it has expired") } });
    expect(await probe(etcd)).toMatchObject({ status: undefined, certificate });
  });

  test("another member at its address is no answer of this one", async () => {
    const etcd = one({ answeredBy: "etcd2" });
    const found = await probe(etcd);
    expect(found).toMatchObject({ status: undefined, calls: [{ fault: { code: "member-mismatch" } }] });
  });

  test("a learner is not asked for what it refuses", async () => {
    const etcd = one({ learner: true });
    expect(taken(await probe(etcd))).toEqual({ status: true, range_serializable: true });
  });

  test("ends with the signal", async () => {
    const etcd = one({ delayMs: { status: 60_000 } });
    const controller = new AbortController();
    const expected = { clusterId: 100n, memberId: 1n };
    const options = { expected, callTimeoutMs: 60_000 };
    const probing = probeMember(etcd, etcd.address("etcd1"), systemClock, options, controller.signal);
    controller.abort(new Fault("interrupted", "stop"));
    await expect(probing).rejects.toMatchObject({ code: "interrupted" });
    expect(etcd.open()).toBe(0);
  });
});
