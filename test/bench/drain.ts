import { open } from "node:fs/promises";
import { systemClock } from "../../src/clock.ts";
import { openEtcd } from "../../src/etcd/connect.ts";
import { tuneHeap } from "../../src/heap.ts";
import { defaultDrainLimits, drainSnapshot } from "../../src/snapshot/drain.ts";

/** Only the drain of a backup, as its own process: `drain.ts URL FILE [CA CERT KEY]`. The seal is checked. */
tuneHeap(false);
const [url = "", path = "", ca, cert, key] = process.argv.slice(2);
await using etcd = openEtcd({ endpoints: [url], tls: ca === undefined ? undefined : { ca, cert, key } });
await using connection = etcd.connect({ name: "bench", url });
const handle = await open(path, "w+", 0o600);
await drainSnapshot(
  connection,
  { path, handle },
  defaultDrainLimits,
  systemClock,
  () => undefined,
  new AbortController().signal,
);
await handle.close();
