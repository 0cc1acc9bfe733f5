import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import type { Etcd } from "../../src/etcd/etcd.ts";
import { openEtcd } from "../../src/etcd/connect.ts";
import { Fault } from "../../src/faults.ts";
import type { HostileServer, Script } from "./hostile-server.ts";
import { startHostileServer } from "./hostile-server.ts";

const stale = { code: status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" };

test("one token serves every call, also those at the same time", async () => {
  await using server = await startHostileServer();
  await using etcd = open(server);
  await using member = etcd.connect({ name: "m", url: server.url });
  await Promise.all([member.status(soon()), member.alarms(soon()), etcd.members(soon())]);
  await member.linearizableRead(soon());
  expect(server.calls.get("Authenticate")).toBe(1);
});

test.each<[string, Script["fail"]]>([
  ["as the API says it", stale],
  ["as maintenance calls up to 3.5 say it", { code: status.UNKNOWN, details: "auth: invalid auth token" }],
  ["as an old revision", { code: status.INVALID_ARGUMENT, details: "etcdserver: revision of auth store is old" }],
])("a token that is refused, %s, is renewed and the call made again", async (_name, fail) => {
  await using server = await startHostileServer({ fail: { ...stale, ...fail, times: 1 } });
  await using etcd = open(server);
  await using member = etcd.connect({ name: "m", url: server.url });
  await expect(member.status(soon())).resolves.toBeDefined();
  expect(server.calls.get("Status")).toBe(2);
  expect(server.calls.get("Authenticate")).toBe(2);
});

test("a token is renewed only once per call", async () => {
  await using server = await startHostileServer({ fail: stale });
  await using etcd = open(server);
  await using member = etcd.connect({ name: "m", url: server.url });
  await expect(member.status(soon())).rejects.toMatchObject({ code: "etcd-auth" });
  expect(server.calls.get("Status")).toBe(2);
  expect(server.calls.get("Authenticate")).toBe(2);
});

test("a snapshot whose token is refused before the first message starts again, once", async () => {
  let streams = 0;
  await using server = await startHostileServer({
    snapshot: async (send) => {
      streams += 1;
      if (streams === 1) send.fail(status.UNKNOWN, "auth: invalid auth token");
      else await send.message({ remainingBytes: "0", blob: Buffer.from("db") });
    },
  });
  await using etcd = open(server);
  expect(await count(etcd, server)).toBe(1);
  expect(streams).toBe(2);
  expect(server.calls.get("Authenticate")).toBe(2);
});

test("a snapshot that has begun is never started again", async () => {
  await using server = await startHostileServer({
    snapshot: async (send) => {
      await send.message({ remainingBytes: "9", blob: Buffer.from("db") });
      send.fail(status.UNAUTHENTICATED, "etcdserver: invalid auth token");
    },
  });
  await using etcd = open(server);
  await expect(count(etcd, server)).rejects.toMatchObject({ code: "etcd-auth" });
  expect(server.calls.get("Snapshot")).toBe(1);
});

test("a wrong password is refused by name, and no other endpoint is tried with it", async () => {
  const refuseLogin = "etcdserver: authentication failed, invalid user ID or password";
  await using server = await startHostileServer({ refuseLogin });
  await using other = await startHostileServer({ refuseLogin });
  await using etcd = openEtcd({ endpoints: [server.url, other.url], auth: login });
  await expect(etcd.members(soon())).rejects.toMatchObject({
    code: "etcd-auth",
    message: expect.stringContaining("refuses the user root or its password"),
  });
  expect([server.calls.get("Authenticate"), other.calls.get("Authenticate")]).toEqual([1, undefined]);
});

test("a cluster without authentication is used without a token", async () => {
  await using server = await startHostileServer({ refuseLogin: "etcdserver: authentication is not enabled" });
  await using etcd = open(server);
  await expect(etcd.members(soon())).resolves.toBeDefined();
});

test("a learner's token comes from another endpoint", async () => {
  await using learner = await startHostileServer({ refuseLogin: "etcdserver: rpc not supported for learner" });
  await using voter = await startHostileServer();
  await using etcd = openEtcd({ endpoints: [voter.url], auth: login });
  await using member = etcd.connect({ name: "l", url: learner.url });
  await expect(member.status(soon())).resolves.toBeDefined();
  expect(voter.calls.get("Authenticate")).toBe(1);
});

test("a password that cannot be read is that fault, and nothing is sent", async () => {
  await using server = await startHostileServer();
  const fault = new Fault("secret-unreadable", "cannot read the password");
  const password = async (): Promise<string> => Promise.reject(fault);
  await using etcd = openEtcd({ endpoints: [server.url], auth: { username: "root", password } });
  await expect(etcd.members(soon())).rejects.toBe(fault);
  expect(server.calls.size).toBe(0);
});

const login = { username: "root", password: async (): Promise<string> => "secret" };

function open(server: HostileServer): Etcd {
  return openEtcd({ endpoints: [server.url], auth: login });
}

async function count(etcd: Etcd, server: HostileServer): Promise<number> {
  await using member = etcd.connect({ name: "m", url: server.url });
  let messages = 0;
  for await (const batch of member.snapshot(soon())) messages += batch.length;
  return messages;
}

function soon(): AbortSignal {
  return AbortSignal.timeout(25_000);
}
