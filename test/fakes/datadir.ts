import { createHash } from "node:crypto";
import { throwIfAborted } from "../../src/faults.ts";
import type { BuiltCluster, BuiltFile, DataDirectoryBuilder } from "../../src/datadir/datadir.ts";

/** What a fake builder claims of the snapshot; the rest is made of the request. */
export type FakeSnapshot = Pick<BuiltCluster, "revision" | "alarmsRemoved" | "authEnabled" | "leases"> & {
  readonly hash: number;
};

const snapshot: FakeSnapshot = { revision: 1000n, hash: 7, alarmsRemoved: [], authEnabled: false, leases: 0 };

/** A builder that builds small files of text, each with its member's name in it, and counts what it was asked for. */
export function fakeBuilder(facts: Partial<FakeSnapshot> = {}): DataDirectoryBuilder & { builds: number } {
  const { revision: last, hash, ...rest } = { ...snapshot, ...facts };
  const builder = {
    name: "lifeboat",
    builds: 0,
    require: async () => await Promise.resolve(),
    async build(database, _workDirectory, { token, members, bump }, signal) {
      throwIfAborted(signal);
      builder.builds++;
      const revision = last + (bump ?? 0n);
      const compactRevision = bump === undefined ? -1n : revision;
      return {
        ...rest,
        clusterId: idOf(`${token} ${members.map(({ name }) => name).join()}`),
        members: members.map(({ name, peerUrls }) => ({
          name,
          memberId: idOf(`${peerUrls.join()} ${token}`),
          data: [
            textFile("snap/db", `${database} at ${revision}\n`),
            textFile(`snap/0000000000000001-${members.length.toString(16).padStart(16, "0")}.snap`, "snap\n"),
          ],
          wal: [textFile("0000000000000000-0000000000000000.wal", `wal of ${name}\n`)],
        })),
        revision,
        compactRevision,
        hashKv: { hash, revision, compactRevision },
        alarmsLeft: [],
        downgrade: undefined,
      };
    },
  } satisfies DataDirectoryBuilder & { builds: number };
  return builder;
}

function idOf(text: string): bigint {
  return createHash("sha1").update(text).digest().readBigUInt64BE();
}

function textFile(path: string, text: string): BuiltFile {
  const bytes = Buffer.from(text);
  return {
    path,
    sizeBytes: bytes.length,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    mode: 0o600,
    async *content(signal) {
      throwIfAborted(signal);
      yield bytes;
    },
  };
}
