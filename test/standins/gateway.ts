import { connect, createServer, type Socket } from "node:net";

/** What stands between clients and etcd, as an API server does, and lets every byte through: `gateway.ts PORT HOST:PORT`. When it ends, its connections do. */
const [port = "", target = ""] = process.argv.slice(2);
const { hostname, port: targetPort } = new URL(`tcp://${target}`);

createServer((client) => {
  const upstream = connect(Number(targetPort), hostname);
  const joined: readonly Socket[] = [client, upstream];
  for (const socket of joined) {
    // Whatever ends one of the two ends the other.
    socket.on("error", () => undefined);
    socket.on("close", () => joined.forEach((each) => each.destroy()));
  }
  client.pipe(upstream).pipe(client);
}).listen(Number(port), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
