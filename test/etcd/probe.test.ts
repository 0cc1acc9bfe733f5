import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { expect, test } from "vitest";
import { explain } from "../../src/etcd/probe.ts";
import { TlsFiles } from "../../src/etcd/tls-files.ts";
import { Fault } from "../../src/faults.ts";

interface Dribbler extends AsyncDisposable {
  readonly url: string;
  /** Settles when a TLS hello has come, which is answered by a byte now and then, for ever. */
  readonly hello: Promise<void>;
}

/** Hangs up on everything that is not TLS. */
async function startDribbler(): Promise<Dribbler> {
  const sockets = new Set<Socket>();
  const hello = Promise.withResolvers<void>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("data", (bytes) => {
      if (bytes[0] !== 0x16) {
        socket.destroy();
        return;
      }
      hello.resolve();
      socket.write(Buffer.from([0x16, 3, 3, 0x3f, 0]));
      const timer = setInterval(() => socket.write(Buffer.alloc(1, 2)), 300);
      socket.once("close", () => clearInterval(timer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hello: hello.promise,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function ask(url: string, signal: AbortSignal): Promise<Fault> {
  const asked = { name: "m1", url, call: "Status", tls: {}, user: undefined };
  return await explain(new Error("socket hang up"), asked, new TlsFiles({}), undefined, signal);
}

test("a server that dribbles holds a diagnosis for a few seconds at most", async () => {
  await using server = await startDribbler();
  // Without a bound of its own it would outlast the test.
  await expect(ask(server.url, new AbortController().signal)).resolves.toBeInstanceOf(Fault);
  await server.hello;
});

test("a diagnosis ends with its caller's signal", async () => {
  await using server = await startDribbler();
  const controller = new AbortController();
  const asking = ask(server.url, controller.signal);
  void server.hello.then(() => controller.abort(new Fault("interrupted", "stop")));
  await expect(asking).rejects.toMatchObject({ code: "interrupted" });
});
