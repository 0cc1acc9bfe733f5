import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { Etcd3 } from "etcd3";

/**
 * Behaves towards etcd as a kube-apiserver does, as far as a restore can tell: it keeps a watch on everything open, holds a lease, writes a key every two seconds, and
 * says on /readyz whether etcd answers. It remembers the highest revision that it was ever told, and logs WENT BACK when etcd tells a lower one. `api-server.ts NAME PORT ENDPOINTS [CA CERT KEY [SERVERCERT SERVERKEY]]`.
 */
const [name = "", port = "", endpoints = "", ca, cert, key, servingCert, servingKey] = process.argv.slice(2);
const credentials =
  ca === undefined || cert === undefined || key === undefined
    ? undefined
    : { rootCertificate: readFileSync(ca), certChain: readFileSync(cert), privateKey: readFileSync(key) };
const client = new Etcd3({ hosts: endpoints.split(","), ...(credentials && { credentials }) });
// What fails is tried again for as long as it lives; /readyz tells.
process.on("unhandledRejection", () => undefined);

/** Beside its log, since it may be started again. */
const file = "revision";
let highest = existsSync(file) ? BigInt(readFileSync(file, "utf8")) : 0n;

function remember({ header }: { header: { revision: string } }): void {
  const revision = BigInt(header.revision);
  if (revision < highest) console.log(`WENT BACK: it was ${highest}, and is ${revision}`);
  else if (revision > highest) writeFileSync(file, String((highest = revision)));
}

const lease = client.lease(15);
lease.on("lost", () => process.exit(1));
await lease.put(`/registry/masterleases/${name}`).value(name);
const watcher = await client.watch().prefix("/registry/").create();
watcher.on("error", () => undefined);
setInterval(() => {
  client
    .put(`/registry/leases/${name}`)
    .value(new Date().toISOString())
    .exec()
    .then(remember, () => undefined);
}, 2000);

const served = new Set(["/readyz", "/api/v1/namespaces/kube-system"]);
const answer: RequestListener = (request, response) => {
  client
    .get("/registry/health")
    .exec()
    .then(
      (answered) => {
        remember(answered);
        response.writeHead(served.has(request.url ?? "") ? 200 : 404).end("ok");
      },
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
};
const server =
  servingCert === undefined || servingKey === undefined
    ? createServer(answer)
    : createTlsServer({ cert: readFileSync(servingCert), key: readFileSync(servingKey) }, answer);
server.listen(Number(port), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
