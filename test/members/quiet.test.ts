import { expect, test } from "vitest";
import { judgeQuiet, neverCalled } from "../../src/cluster/quiet.ts";
import type { ClientCalls } from "../../src/etcd/etcd.ts";

function calls(
  changes: Partial<ClientCalls> & { readonly methods?: Readonly<Record<string, number>> } = {},
): ClientCalls {
  const byMethod = new Map(Object.entries(changes.methods ?? { Range: 10, Txn: 5 }));
  const sum = [...byMethod.values()].reduce((total, count) => total + count, 0);
  return { startedSeconds: 100, calls: sum, byMethod, openStreams: 0, watchers: 0, ...changes };
}

test("a member whose counters stand still, without a stream, is quiet", () => {
  expect(judgeQuiet("m1", calls(), calls())).toEqual({ quiet: true, seen: [], onlyReads: false });
});

test("one call of a client is heard, and named", () => {
  const { quiet, seen } = judgeQuiet("m1", calls(), calls({ methods: { Range: 12, Txn: 6 } }));
  expect(quiet).toBe(false);
  expect(seen).toEqual(["m1 answered 3 client calls (Range 2, Txn 1)"]);
});

test("nothing but reads may be a look at a member's health; a write, a lease or a watch is not", () => {
  const after = (methods: Readonly<Record<string, number>>, changes: Partial<ClientCalls> = {}): boolean =>
    judgeQuiet("m1", calls(), calls({ methods, ...changes })).onlyReads;
  expect(after({ Range: 12, Txn: 5 })).toBe(true);
  expect(after({ Range: 12, Txn: 6 })).toBe(false);
  expect(after({ Range: 12, Txn: 5, LeaseGrant: 1 })).toBe(false);
  expect(after({ Range: 12, Txn: 5 }, { watchers: 1 })).toBe(false);
  expect(after({ Range: 12, Txn: 5 }, { openStreams: 1 })).toBe(false);
  expect(after({ Range: 2 }, { startedSeconds: 200 })).toBe(false);
});

test("a watch that only waits is heard, though nothing is called", () => {
  expect(judgeQuiet("m1", calls(), calls({ watchers: 2, openStreams: 1 })).seen).toEqual([
    "m1 has 2 open watches",
    "m1 has 1 open streams of watches or leases",
  ]);
});

test("a member that was restarted meanwhile, or shows no counters, proves nothing", () => {
  expect(judgeQuiet("m1", calls(), calls({ startedSeconds: 200 }))).toMatchObject({ quiet: false });
  expect(judgeQuiet("m1", calls(), calls({ methods: { Range: 1 } }))).toMatchObject({ quiet: false });
  expect(judgeQuiet("m1", undefined, calls())).toMatchObject({ quiet: false });
  expect(judgeQuiet("m1", calls(), undefined)).toMatchObject({ quiet: false });
});

test("nobody was ever answered only where every counter is 0", () => {
  expect(neverCalled(calls({ methods: {} }))).toBe(true);
  expect(neverCalled(calls({ methods: { Range: 1 } }))).toBe(false);
  expect(neverCalled(calls({ methods: {}, watchers: 1 }))).toBe(false);
  expect(neverCalled(calls({ methods: {}, openStreams: 1 }))).toBe(false);
});
