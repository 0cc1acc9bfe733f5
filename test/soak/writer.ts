import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { openKv } from "../bench/kv.ts";
import type { TestCluster } from "../cluster/harness.ts";

/** Writes all the time, through whichever member answers, until it is stopped. */
export async function startWriter(
  cluster: TestCluster,
  { keys, valueBytes, everyMs }: { readonly keys: number; readonly valueBytes: number; readonly everyMs: number },
): Promise<() => Promise<{ readonly puts: number; readonly failedPuts: number }>> {
  const { tls } = cluster;
  const files =
    tls === undefined
      ? undefined
      : { ca: await readFile(tls.ca), cert: await readFile(tls.cert), key: await readFile(tls.key) };
  const clients = cluster.endpoints.map((endpoint) => openKv(endpoint, files));
  let [puts, failedPuts, stopping] = [0, 0, false];
  const writing = (async () => {
    for (let n = 0; !stopping; n += 1) {
      try {
        await clients[n % clients.length]?.put(`soak/${n % keys}`, Buffer.alloc(valueBytes, `value ${n} `));
        puts += 1;
      } catch {
        // A member that is down answers nobody; the next put goes to the next one.
        failedPuts += 1;
      }
      await sleep(everyMs);
    }
  })();
  return async () => {
    stopping = true;
    await writing;
    for (const client of clients) client[Symbol.dispose]();
    return { puts, failedPuts };
  };
}
