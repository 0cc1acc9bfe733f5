import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { encodeCommit } from "../../src/datadir/wal.ts";
import { readWal } from "../../src/datadir/read-wal.ts";
import { openEtcd } from "../../src/etcd/connect.ts";
import { openLocalHost } from "../../src/host/local.ts";
import { survivorSource } from "../../src/restore/survivor.ts";
import type { Service } from "../../src/service/service.ts";
import { openLocalTools } from "../../src/stock/local.ts";
import { runTask } from "../../src/workers/worker.ts";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { startCluster } from "./harness.ts";
import { etcdProgram, minors } from "./servers.ts";

const never = new AbortController().signal;

const stopped = {
  name: "etcd",
  description: "nobody runs it",
  state: async () => ({ running: false }),
} as unknown as Service;

test.each(minors)(
  "what a killed member of etcd %s acknowledged is in what is taken of it, and its own files stay as they are",
  async (minor) => {
    // The database is written once an hour, so all is in the log alone; 3.3 has no flag for that, and may have written it.
    const lazy = minor === "3.3" ? [] : ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];
    await using cluster = await startCluster({ minor, members: 1, flags: lazy });
    const [member] = cluster.members;
    // Has it written once: who is a member stands there.
    await cluster.etcdctl(["snapshot", "save", join(cluster.directory, "unused.db")]);
    for (let number = 1; number <= 20; number += 1) await cluster.put("key", `value ${number}`);
    const revision = await cluster.revision();
    await cluster.put("key", "acknowledged last");
    await member!.stop("SIGKILL");
    const files = async (): Promise<readonly string[]> => {
      const found = await readdir(member!.dataDirectory, { recursive: true, withFileTypes: true });
      return await Promise.all(
        found.map(async ({ parentPath, name }) => {
          const { size, mtimeMs } = await stat(join(parentPath, name));
          return `${parentPath}/${name} ${size} ${mtimeMs}`;
        }),
      );
    };
    const before = await files();
    const directory = await makeDirectory("survivor");
    try {
      await using etcd = openEtcd({ endpoints: [] });
      const source = await survivorSource(
        {
          host: openLocalHost("h1"),
          at: { member: "etcd1", service: stopped, dataDirectory: member!.dataDirectory, walDirectory: undefined },
          etcd,
          observe: { endpoints: [], overrides: new Map(), memberTimeoutMs: 1000 },
          scan: (path, probe, signal) => runTask({ kind: "scan-snapshot", path, probe, expectSeal: undefined }, signal),
          stock: openLocalTools({ directory: dirname(dirname(etcdProgram("3.6", "etcd"))), path: "" }),
          wal: { read: readWal, commitRecord: encodeCommit },
          minor,
          clock: systemClock,
        },
        never,
      );
      const { facts } = await source.fetch(directory, () => undefined, never);
      expect(facts).toMatchObject({ kind: "member", name: "member etcd1", revision: revision + 1n, keys: 1 });
      expect(facts.members).toMatchObject([{ name: "etcd1", peerUrls: [member!.peerUrl] }]);
      if (minor !== "3.3")
        expect(facts.survivor).toMatchObject({ how: "replayed", tool: expect.stringContaining(`etcd ${minor}.`) });
      expect(facts.survivor!.index).toBe(facts.survivor!.lastIndex);
      // Taken once: a resumed restore has moved the member's own data away.
      expect((await source.fetch(directory, () => undefined, never)).facts).toEqual(facts);
      expect(await files()).toEqual(before);
    } finally {
      await discardDirectory(directory);
    }
  },
);
