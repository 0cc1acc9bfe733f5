import { createServer as createHttpServer } from "node:http";
import type { RequestListener } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { createServer as createTcpServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { openEtcd } from "../../src/etcd/connect.ts";
import { startHostileServer } from "./hostile-server.ts";

const timeouts = { connectMs: 3000, callMs: 6000 };
/** For a server that never answers. */
const hasty = { connectMs: 500, callMs: 1000 };
const html: RequestListener = (_request, response) =>
  response.writeHead(404, { "content-type": "text/html" }).end("<html>");

test("a web server is no etcd", async () => {
  await using server = await listen(createHttpServer(html));
  await expect(askMembers(server.url)).rejects.toMatchObject({
    code: "etcd-not-etcd",
    message: expect.stringContaining("HTTP 404 text/html"),
  });
});

test("a gateway that answers 502 over HTTP/2 is no etcd", async () => {
  const gateway = createHttp2Server((_request, response) => {
    response.writeHead(502, { "content-type": "text/html" }).end("<html>bad gateway</html>");
  });
  await using server = await listen(gateway);
  await expect(askMembers(server.url)).rejects.toMatchObject({ code: "etcd-not-etcd" });
});

test("another gRPC service is no etcd", async () => {
  await using server = await startHostileServer({
    fail: { code: status.UNIMPLEMENTED, details: "unknown service etcdserverpb.Cluster" },
  });
  await expect(askMembers(server.url)).rejects.toMatchObject({ code: "etcd-not-etcd" });
});

test("a server that greets in its own language is no etcd", async () => {
  await using server = await listen(createTcpServer((socket) => socket.end("SSH-2.0-OpenSSH_9.9\r\n")));
  await expect(askMembers(server.url)).rejects.toMatchObject({ code: "etcd-not-etcd" });
  await expect(askMembers(server.url.replace("http:", "https:"))).rejects.toMatchObject({ code: "etcd-not-etcd" });
});

test("a server that accepts and stays silent is unreachable, within the bounds of connecting and one look", async () => {
  await using server = await listen(createTcpServer(() => undefined));
  for (const url of [server.url, server.url.replace("http:", "https:")]) {
    // Without bounds it would outlast the test.
    await expect(askMembers(url, hasty)).rejects.toMatchObject({
      code: "etcd-unreachable",
      message: expect.stringContaining("does not answer"),
    });
  }
});

test("an etcd 2 server is refused by its version", async () => {
  const two: RequestListener = (request, response) =>
    request.url === "/version"
      ? response.end('{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}')
      : response.writeHead(404).end("404 page not found");
  await using server = await listen(createHttpServer(two));
  await expect(askMembers(server.url)).rejects.toMatchObject({
    code: "etcd-unsupported",
    message: expect.stringContaining("is etcd 2.3.8, which is not supported"),
  });
});

test("TLS asked of a plain web server is no etcd", async () => {
  await using server = await listen(createHttpServer(html));
  await expect(askMembers(server.url.replace("http:", "https:"))).rejects.toMatchObject({
    code: "etcd-not-etcd",
    message: expect.stringContaining("plain HTTP 404"),
  });
});

test("a port where nobody listens is unreachable, and the message names the URL", async () => {
  const server = await listen(createTcpServer(() => undefined));
  await server[Symbol.asyncDispose]();
  await expect(askMembers(server.url)).rejects.toMatchObject({
    code: "etcd-unreachable",
    message: expect.stringMatching(new RegExp(`${server.url}.*ECONNREFUSED`)),
  });
});

test("a name that does not resolve is unreachable", async () => {
  await expect(askMembers("http://etcd.invalid:2379")).rejects.toMatchObject({
    code: "etcd-unreachable",
    message: expect.stringContaining("etcd.invalid"),
  });
});

test("a URL without scheme is refused before anything is opened", () => {
  expect(() => openEtcd({ endpoints: ["10.0.0.1:2379"] })).toThrow(expect.objectContaining({ code: "config-invalid" }));
});

test("one endpoint that is down or wrong does not hide the one that answers; when none answers, each is named", async () => {
  await using good = await startHostileServer();
  await using wrong = await listen(createHttpServer(html));
  const down = "http://127.0.0.1:1";
  await using etcd = openEtcd({ endpoints: [down, wrong.url, good.url], timeouts });
  await expect(etcd.members(soon())).resolves.toMatchObject({ clusterId: 10n, answeredBy: 1n });
  await using none = openEtcd({ endpoints: [down, "http://127.0.0.1:2"], timeouts });
  await expect(none.members(soon())).rejects.toMatchObject({
    code: "etcd-unreachable",
    message: expect.stringMatching(/127\.0\.0\.1:1 .*127\.0\.0\.1:2 /),
  });
  await using broken = openEtcd({ endpoints: [down, wrong.url], timeouts });
  await expect(broken.members(soon())).rejects.toMatchObject({ code: "etcd-not-etcd" });
});

test("a member that does not answer in time is etcd-timeout, not unreachable", async () => {
  await using server = await startHostileServer({ delayMs: 5000 });
  await expect(askMembers(server.url, hasty)).rejects.toMatchObject({
    code: "etcd-timeout",
    message: expect.stringContaining("MemberList"),
  });
});

test("an aborted call ends at once as interrupted", async () => {
  await using server = await startHostileServer({ delayMs: 600_000 });
  await using etcd = openEtcd({ endpoints: [server.url], timeouts: { ...timeouts, callMs: 600_000 } });
  await using member = etcd.connect({ name: "m", url: server.url });
  const aborter = new AbortController();
  const asked = member.status(aborter.signal);
  aborter.abort();
  await expect(asked).rejects.toMatchObject({ code: "interrupted" });
});

test("a Status of another member is given as it is, and one without header is no etcd's", async () => {
  const other = { header: { clusterId: "10", memberId: "18446744073709551615", revision: "1", raftTerm: "1" } };
  await using server = await startHostileServer({ status: other });
  await using etcd = openEtcd({ endpoints: [server.url] });
  await using member = etcd.connect({ name: "m", url: server.url });
  await expect(member.status(soon())).resolves.toMatchObject({ memberId: 2n ** 64n - 1n });
  await using headless = await startHostileServer({ status: { header: null } });
  await using second = etcd.connect({ name: "h", url: headless.url });
  await expect(second.status(soon())).rejects.toMatchObject({ code: "etcd-not-etcd" });
});

test("connections are counted, and a new one after the server went away is seen", async () => {
  const first = await startHostileServer();
  await using etcd = openEtcd({ endpoints: [first.url], timeouts });
  await using member = etcd.connect({ name: "m", url: first.url });
  expect(member.connections).toBe(0);
  await member.status(soon());
  await member.status(soon());
  expect(member.connections).toBe(1);
  await first[Symbol.asyncDispose]();
  await using second = await startHostileServer({}, Number(new URL(first.url).port));
  expect(second.url).toBe(first.url);
  await expect
    .poll(() =>
      member.status(soon()).then(
        () => "answered",
        () => "not yet",
      ),
    )
    .toBe("answered");
  expect(member.connections).toBe(2);
});

async function askMembers(url: string, within = timeouts): Promise<unknown> {
  await using etcd = openEtcd({ endpoints: [url], timeouts: within });
  return await etcd.members(soon());
}

function soon(): AbortSignal {
  return AbortSignal.timeout(25_000);
}

async function listen(server: Server): Promise<{ url: string } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      sockets.forEach((socket) => socket.destroy());
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
