import { join } from "node:path";
import { runTask } from "../workers/worker.ts";
import { checkBuilt } from "./check.ts";
import type { BuiltCluster, BuiltFile, DataDirectoryBuilder, DataDirectoryRequest } from "./datadir.ts";
import { carriedOver, planDatabase, type DatabasePlan } from "./database.ts";
import { diskFile, heldFile } from "./files.ts";
import { identify, type Identity } from "./identity.ts";
import { encodeSnap } from "./snap.ts";
import { encodeSegment, firstSegmentName, restoredTerm, segmentBytes, snapName } from "./wal.ts";

/**
 * Our own builder: needs no program of etcd's, reads the database a few times and writes it once, whatever the number of members, which differ in their WAL's first lines only.
 */
export function lifeboatBuilder(): DataDirectoryBuilder {
  return {
    name: "lifeboat",
    build,
    async require(database, request, signal) {
      const identity = identify(request);
      planDatabase(await runTask({ kind: "inspect-database", path: database }, signal), identity, request);
    },
  };
}

async function build(
  database: string,
  workDirectory: string,
  request: DataDirectoryRequest,
  signal: AbortSignal,
): Promise<BuiltCluster> {
  const identity = identify(request);
  const contents = await runTask({ kind: "inspect-database", path: database }, signal);
  const plan = planDatabase(contents, identity, request);
  const copy = join(workDirectory, "db");
  const { changes } = plan;
  const copying = runTask({ kind: "rewrite-database", source: database, destination: copy, changes }, signal);
  // What the members will answer is computed from the given database, so that it says something when the copy gives the same.
  const hashing = announcedHash(database, plan, request, signal);
  // Both have ended, whatever came of them: nobody is left writing when a failure is told.
  await Promise.allSettled([copying, hashing]);
  await copying;
  const hash = await hashing;
  const [file, facts] = await Promise.all([
    diskFile("snap/db", copy, signal),
    runTask({ kind: "scan-snapshot", path: copy, probe: [], expectSeal: false }, signal),
  ]);
  const { revision, compactRevision } = plan;
  const built: BuiltCluster = {
    ...carriedOver(contents, []),
    clusterId: identity.clusterId,
    members: await buildMembers(file, identity, request),
    revision,
    compactRevision,
    hashKv: { hash, revision, compactRevision },
  };
  await checkBuilt(built, facts, identity, signal);
  return built;
}

async function announcedHash(
  database: string,
  { revision, compactRevision }: DatabasePlan,
  { bump }: DataDirectoryRequest,
  signal: AbortSignal,
): Promise<number> {
  if (bump !== undefined) return await runTask({ kind: "hash-kv-bumped", path: database, revision }, signal);
  const compactRevisions = [compactRevision];
  const [hash = 0] = await runTask({ kind: "hash-kv", path: database, revision, compactRevisions }, signal);
  return hash;
}

async function buildMembers(
  database: BuiltFile,
  identity: Identity,
  { members, minor }: DataDirectoryRequest,
): Promise<BuiltCluster["members"]> {
  const index = BigInt(identity.members.length);
  const snap = await heldFile(`snap/${snapName(restoredTerm, index)}`, encodeSnap(identity, minor));
  return await Promise.all(
    members.map(async ({ name }) => {
      const memberId = identity.members.find((member) => member.name === name)?.id ?? 0n;
      const wal = await heldFile(firstSegmentName, encodeSegment(memberId, identity, minor), segmentBytes);
      return { name, memberId, data: [database, snap], wal: [wal] };
    }),
  );
}
