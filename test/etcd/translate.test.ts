import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { ConnectTimeout } from "../../src/etcd/channel.ts";
import type { Asked } from "../../src/etcd/translate.ts";
import { isTokenTrouble, translate } from "../../src/etcd/translate.ts";
import type { FaultCode } from "../../src/faults.ts";
import { Fault } from "../../src/faults.ts";

const asked: Asked = { name: "m1", url: "https://m1:2379", call: "HashKV", tls: {}, user: "root" };

function grpc(code: status, details: string): Error {
  return Object.assign(new Error(`${code} ${status[code]}: ${details}`), { code, details });
}

test.each<[status, string, FaultCode, RegExp]>([
  // Maintenance calls up to etcd 3.5 give the store's words with UNKNOWN, all others the API's.
  [status.UNKNOWN, "auth: user name is empty", "etcd-auth", /did not see the user root/],
  [status.INVALID_ARGUMENT, "etcdserver: user name is empty", "etcd-auth", /did not see the user root/],
  [status.UNKNOWN, "auth: invalid auth token", "etcd-auth", /token/],
  [status.UNAUTHENTICATED, "etcdserver: invalid auth token", "etcd-auth", /token/],
  [status.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", "etcd-auth", /token/],
  [status.UNKNOWN, "auth: revision in header is old", "etcd-auth", /token/],
  [status.UNKNOWN, "auth: permission denied", "etcd-auth", /user root lacks the root role/],
  [status.PERMISSION_DENIED, "etcdserver: permission denied", "etcd-auth", /user root lacks the root role/],
  [
    status.INVALID_ARGUMENT,
    "etcdserver: authentication failed, invalid user ID or password",
    "etcd-auth",
    /refuses the user root or its password/,
  ],
  [status.UNKNOWN, "auth: user not found", "etcd-auth", /knows no user root/],
  [status.FAILED_PRECONDITION, "etcdserver: user name not found", "etcd-auth", /knows no user root/],
  [status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", "etcd-compacted", /HashKV/],
  [status.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", "etcd-refused", /future/],
  [status.UNAVAILABLE, "etcdserver: rpc not supported for learner", "etcd-unsupported", /learner/],
  [status.FAILED_PRECONDITION, "etcdserver: rpc not supported for learner", "etcd-unsupported", /learner/],
  [status.UNAVAILABLE, "etcdserver: request timed out", "etcd-timeout", /request timed out/],
  [status.UNAVAILABLE, "etcdserver: no leader", "etcd-timeout", /no leader/],
  [status.UNAVAILABLE, "etcdserver: unhealthy cluster", "etcd-refused", /lets no member come or go now/],
  [status.RESOURCE_EXHAUSTED, "etcdserver: too many requests", "etcd-refused", /too many/],
  [status.UNIMPLEMENTED, "unknown service etcdserverpb.Maintenance", "etcd-not-etcd", /unknown service/],
  [status.UNIMPLEMENTED, "Received HTTP status code 404", "etcd-not-etcd", /404/],
  [status.PERMISSION_DENIED, "Received HTTP status code 403", "etcd-not-etcd", /403/],
  [status.DEADLINE_EXCEEDED, "Deadline exceeded after 3.0s,remote_addr=10.0.0.1:2379", "etcd-timeout", /HashKV/],
  [status.DEADLINE_EXCEEDED, "Deadline exceeded after 3.0s,Waiting for LB pick", "etcd-unreachable", /m1/],
  [status.UNAVAILABLE, "Connection dropped", "etcd-unreachable", /Connection dropped/],
  [
    status.UNAVAILABLE,
    "No connection established. Last error: Error: connect ECONNREFUSED 10.0.0.1:2379. Resolution note: ",
    "etcd-unreachable",
    /m1 \(https:\/\/m1:2379\) cannot be reached: connect ECONNREFUSED 10\.0\.0\.1:2379$/,
  ],
  [
    status.UNAVAILABLE,
    "No connection established. Last error: Error: certificate has expired. Resolution note: ",
    "etcd-tls",
    /server certificate of m1 .* has expired/,
  ],
  [
    status.UNAVAILABLE,
    "No connection established. Last error: 40:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../deps/x.c:9:SSL alert number 116\n (2026-11-21T09:28:30.171Z). Resolution note: ",
    "etcd-tls",
    /asks for a client certificate, and none is configured/,
  ],
  [status.INTERNAL, "something else", "etcd-refused", /something else/],
])("%i %s is %s", (code, details, fault, message) => {
  const translated = translate(grpc(code, details), asked);
  expect(translated).toMatchObject({ code: fault, message: expect.stringMatching(message) });
});

test("what is no status of gRPC is about reaching the member; a fault stays what it is", () => {
  expect(translate(new ConnectTimeout("no connection within 5 ms"), asked).code).toBe("etcd-unreachable");
  const fault = new Fault("etcd-tls", "key and certificate");
  expect(translate(fault, asked)).toBe(fault);
});

test("messages tell a missing user from a missing role, and hints name the command or the key of the configuration", () => {
  const nobody: Asked = { ...asked, user: undefined };
  const empty = translate(grpc(status.INVALID_ARGUMENT, "etcdserver: user name is empty"), nobody);
  expect(empty.message).toBe("m1 (https://m1:2379) has authentication on, but no user is configured");
  expect(empty.hint).toContain("cluster.auth");
  expect(translate(grpc(status.PERMISSION_DENIED, "etcdserver: permission denied"), asked).hint).toBe(
    "run: etcdctl user grant-role root root",
  );
  const self = grpc(status.UNAVAILABLE, "No connection established. Last error: Error: self-signed certificate. x");
  expect(translate(self, asked).hint).toContain("set cluster.tls.ca");
  expect(translate(self, { ...asked, tls: { ca: "/pki/ca.crt" } }).hint).toContain("cluster.tls.ca (/pki/ca.crt)");
});

test("an expired client certificate is told by its date, another by the alert", () => {
  const alert = grpc(
    status.UNAVAILABLE,
    "Last error: SSL routines:f:sslv3 alert bad certificate:x.c:1:SSL alert number 42",
  );
  const tls = { cert: "/pki/c.crt", key: "/pki/c.key" };
  expect(translate(alert, { ...asked, tls, validTo: "Jan  1 00:00:00 2021 GMT" }).message).toContain(
    "expired on Jan  1",
  );
  expect(translate(alert, { ...asked, tls, validTo: "Jan  1 00:00:00 2999 GMT" }).message).toContain("bad certificate");
});

test("a token is renewed for its own trouble only", () => {
  expect(isTokenTrouble(grpc(status.UNKNOWN, "auth: invalid auth token"))).toBe(true);
  expect(isTokenTrouble(grpc(status.INVALID_ARGUMENT, "etcdserver: revision of auth store is old"))).toBe(true);
  expect(isTokenTrouble(grpc(status.PERMISSION_DENIED, "etcdserver: permission denied"))).toBe(false);
  expect(
    isTokenTrouble(grpc(status.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")),
  ).toBe(false);
});
