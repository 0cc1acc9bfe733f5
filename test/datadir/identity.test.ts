import { expect, test } from "vitest";
import { goJson, identify, memberJson } from "../../src/datadir/identity.ts";

const member = (name: string, ...peerUrls: readonly string[]): { name: string; peerUrls: readonly string[] } => ({
  name,
  peerUrls,
});

test("IDs do not depend on the order of members or URLs, and do on the token", () => {
  const one = identify({ token: "t", members: [member("a", "http://a:1", "http://b:2"), member("c", "http://c:3")] });
  const other = identify({ token: "t", members: [member("c", "http://c:3"), member("a", "http://b:2", "http://a:1")] });
  expect(other).toEqual(one);
  const ids = one.members.map(({ id }) => id);
  expect(ids).toEqual([...ids].sort((a, b) => (a < b ? -1 : 1)));
  const renamed = identify({
    token: "u",
    members: [member("a", "http://a:1", "http://b:2"), member("c", "http://c:3")],
  });
  expect(renamed.clusterId).not.toBe(one.clusterId);
});

test("a member's JSON has its ID as a bare number, and Go's escapes", () => {
  expect(memberJson({ name: "<&>\u2028", id: 2n ** 64n - 1n, peerUrls: ["http://a:1"] })).toBe(
    '{"id":18446744073709551615,"peerURLs":["http://a:1"],"name":"\\u003c\\u0026\\u003e\\u2028"}',
  );
  expect(goJson("/")).toBe('"/"');
});

test.each([
  [[], "one member at least"],
  [[member("a")], "no peer URL"],
  [[member("", "http://a:1")], "no name of a member"],
  [[member("a=b", "http://a:1")], "no name of a member"],
  [[member("a", "http://a:1"), member("a", "http://b:1")], "the name a is given twice"],
  [[member("a", "http://a:1"), member("b", "http://a:1")], "the peer URL http://a:1 is given twice"],
])("%j fits no cluster", (members, words) => {
  expect(() => identify({ token: "t", members })).toThrow(words);
});

test.each([
  "http://a",
  "http://a:0",
  "http://a:65536",
  "http://a:1/",
  "http://a:1?x",
  "HTTP://a:1",
  "http://u@a:1",
  "http://ä:1",
  "ftp://a:1",
  " http://a:1",
  "http://[::1:1",
])("the peer URL %j is left to the stock tool", (url) => {
  expect(() => identify({ token: "t", members: [member("a", url)] })).toThrow(
    expect.objectContaining({ code: "datadir-refused", hint: expect.stringContaining("--builder etcdutl") }),
  );
});

test.each(["line\nbreak", "\ud800"])("the name %j is left to the stock tool", (name) => {
  expect(() => identify({ token: "t", members: [member(name, "http://a:1")] })).toThrow(
    expect.objectContaining({ code: "datadir-refused" }),
  );
});
