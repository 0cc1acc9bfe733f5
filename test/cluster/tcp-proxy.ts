import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** A TCP proxy on loopback: a load balancer, or a network that breaks. TLS passes through it untouched. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** `host:port` of the servers behind it, taken in turn by new connections; may be changed at any time. */
  targets: readonly string[];
  /** Connections that gave more than this many bytes to the client are cut; undefined: none. */
  cutAfterBytes: number | undefined;
  /** True: connections stay open and new ones are taken, but no byte passes, as where a network drops every packet. */
  silent: boolean;
  /** Ends every open connection. */
  cut(): void;
  readonly connections: number;
  readonly cuts: number;
}

export async function startTcpProxy(...urls: readonly string[]): Promise<TcpProxy> {
  const open = new Set<Socket>();
  let silent = false;
  let connections = 0;
  let cuts = 0;
  const server = createServer((client) => {
    const target = proxy.targets[connections % Math.max(1, proxy.targets.length)];
    connections += 1;
    if (target === undefined) {
      client.destroy();
      return;
    }
    const [host = "", port] = target.split(":");
    const upstream = connect(Number(port), host);
    let given = 0;
    upstream.on("data", (bytes: Buffer) => {
      given += bytes.length;
      if (proxy.cutAfterBytes !== undefined && given > proxy.cutAfterBytes) {
        cuts += 1;
        client.destroy();
        upstream.destroy();
      }
    });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(socket);
      socket.on("data", (bytes: Buffer) => {
        if (!other.write(bytes)) socket.pause();
      });
      other.on("drain", () => {
        if (!silent) socket.resume();
      });
      socket.on("end", () => other.end());
      if (silent) socket.pause();
      // Either end may reset the connection; the other one is told by the end of its own.
      socket.on("error", () => undefined);
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const proxy: TcpProxy = {
    port,
    targets: urls.map((url) => new URL(url).host),
    cutAfterBytes: undefined,
    get silent() {
      return silent;
    },
    set silent(now) {
      silent = now;
      // A socket that is paused does not even tell that the other end has gone.
      for (const socket of open)
        if (silent) socket.pause();
        else socket.resume();
    },
    cut() {
      for (const socket of open) socket.destroy();
    },
    get connections() {
      return connections;
    },
    get cuts() {
      return cuts;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}
