import { expect, test } from "vitest";
import { crossMinor, minorOf, minors, type Minor } from "../../src/datadir/minors.ts";

test.each(minors)("a snapshot of %s goes back to its own minor", (minor) => {
  expect(crossMinor({ clusterVersion: `${minor}.0`, storageVersion: undefined }, minor)).toEqual({ kind: "same" });
});

test.each([
  ["3.3", "3.4"],
  ["3.4", "3.5"],
  ["3.5", "3.6"],
  ["3.6", "3.7"],
  ["3.5", "3.7"],
] as const)("a snapshot of %s may be started by %s", (from, server) => {
  expect(crossMinor({ clusterVersion: `${from}.0`, storageVersion: undefined }, server)).toEqual({
    kind: "newer",
    from,
  });
});

test.each([
  ["3.3", "3.5"],
  ["3.4", "3.6"],
  ["3.4", "3.7"],
] as const)("a snapshot of %s is too old for %s, and the reason says by which way it gets there", (from, server) => {
  const { reason } = refused(`${from}.0`, undefined, server);
  expect(reason).toContain(`restore it with etcd ${from}, then upgrade`);
});

test.each([
  ["3.7.0", "3.7.0", "3.6"],
  ["3.7.0", "3.6.0", "3.6"],
  ["3.6.0", "3.7.0", "3.6"],
  ["3.6.0", "3.6.0", "3.5"],
  ["3.5.0", undefined, "3.4"],
] as const)("a snapshot of %s with storage version %s is too new for %s", (clusterVersion, storageVersion, server) => {
  expect(refused(clusterVersion, storageVersion, server).reason).toContain(`etcd ${server} is older`);
});

test("a 3.7 snapshot that was taken after its downgrade took effect goes to 3.6", () => {
  expect(crossMinor({ clusterVersion: "3.6.0", storageVersion: "3.6.0" }, "3.6")).toEqual({ kind: "same" });
});

test("a snapshot of a minor that is not known goes nowhere", () => {
  expect(refused("3.8.0", "3.8.0", "3.7").reason).toBe("the snapshot is of etcd 3.8.0, which is not known");
  expect(minorOf("3.60.1")).toBeUndefined();
  expect(minorOf("13.6.1")).toBeUndefined();
});

test("a file that says nothing goes to any server, as with etcdutl", () => {
  expect(crossMinor({ clusterVersion: undefined, storageVersion: undefined }, "3.6")).toEqual({ kind: "same" });
});

function refused(
  clusterVersion: string,
  storageVersion: string | undefined,
  server: Minor,
): { readonly reason: string } {
  const answer = crossMinor({ clusterVersion, storageVersion }, server);
  if (answer.kind !== "refused") throw new Error(`not refused: ${JSON.stringify(answer)}`);
  return answer;
}
