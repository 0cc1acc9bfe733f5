import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { SnapshotFacts } from "../bolt/facts.ts";
import type { DatabaseContents } from "../bolt/inspect.ts";
import { Fault } from "../faults.ts";
import type { StockRestorer, StockRestorers } from "../stock/stock.ts";
import { runTask } from "../workers/worker.ts";
import { checkBuilt } from "./check.ts";
import { carriedOver, checkVersions } from "./database.ts";
import type { BuiltCluster, BuiltFile, DataDirectoryBuilder, DataDirectoryRequest } from "./datadir.ts";
import { diskFile } from "./files.ts";
import { identify, type Identity } from "./identity.ts";
import { restoredTerm } from "./wal.ts";

/**
 * The stock builder: etcd's own tool, for what ours does not know. It needs the tool of the minor here, some memory of the database's size, time for each member, and names of peer URLs that
 * resolve here. Alarms stay in what it builds.
 */
export function etcdutlBuilder(tools: StockRestorers): DataDirectoryBuilder {
  return {
    name: "etcdutl",
    build: (database, workDirectory, request, signal) => build(tools, database, workDirectory, request, signal),
    async require(database, request, signal) {
      identify(request);
      checkVersions(await runTask({ kind: "inspect-database", path: database }, signal), request);
      await tools.findRestorer(request.minor, signal);
    },
  };
}

async function build(
  tools: StockRestorers,
  database: string,
  workDirectory: string,
  request: DataDirectoryRequest,
  signal: AbortSignal,
): Promise<BuiltCluster> {
  const identity = identify(request);
  const contents = await runTask({ kind: "inspect-database", path: database }, signal);
  checkVersions(contents, request);
  const tool = await tools.findRestorer(request.minor, signal);
  const sealed = (await stat(database)).size % sectorBytes === sealBytes;
  const members: BuiltCluster["members"][number][] = [];
  let shared: BuiltFile | undefined;
  for (const [index, { name }] of request.members.entries()) {
    const own = join(workDirectory, `member-${index + 1}`);
    await mkdir(own, { mode: 0o700 });
    const { token, bump } = request;
    const restore = { snapshotPath: database, sealed, name, members: request.members, token, bump };
    const data = join(await tool.restoreMember(restore, own, signal), "member");
    // Its rows are the same for every member; so one is enough, and room for one.
    if (shared === undefined) shared = await diskFile("snap/db", join(data, "snap/db"), signal);
    else await rm(join(data, "snap/db"));
    const snaps = (await readdir(join(data, "snap"))).filter((file) => file.endsWith(".snap"));
    members.push({
      name,
      memberId: identity.members.find((member) => member.name === name)?.id ?? 0n,
      data: [shared, ...(await filesOf(join(data, "snap"), snaps, "snap/", signal))],
      wal: await filesOf(join(data, "wal"), await readdir(join(data, "wal")), "", signal),
    });
  }
  const copy = join(workDirectory, "member-1/data/member/snap/db");
  const facts = await runTask({ kind: "scan-snapshot", path: copy, probe: [], expectSeal: false }, signal);
  const { revision, compactRevision } = facts;
  const built: BuiltCluster = {
    ...carriedOver(contents, contents.alarms),
    clusterId: identity.clusterId,
    members,
    revision,
    compactRevision,
    hashKv: { hash: await announcedHash(database, contents, facts, request, signal), revision, compactRevision },
  };
  await checkBuilt(built, tool.keepsOldMembers ? asIfTrimmed(facts, identity, tool, request) : facts, identity, signal);
  return built;
}

const sectorBytes = 512;
const sealBytes = 32;

async function filesOf(
  directory: string,
  names: readonly string[],
  prefix: string,
  signal: AbortSignal,
): Promise<readonly BuiltFile[]> {
  return await Promise.all(names.map((name) => diskFile(`${prefix}${name}`, join(directory, name), signal)));
}

/** From the database that was given; the tool counts a bump from the newest row alone, which is seen in what it built. */
async function announcedHash(
  database: string,
  { lastRevision }: DatabaseContents,
  { revision, compactRevision }: SnapshotFacts,
  { bump }: DataDirectoryRequest,
  signal: AbortSignal,
): Promise<number> {
  if (bump === undefined) {
    const task = { kind: "hash-kv", path: database, revision, compactRevisions: [compactRevision] } as const;
    return (await runTask(task, signal))[0] ?? 0;
  }
  if (revision < lastRevision + bump) {
    throw new Fault("datadir-damaged", `the built database is at revision ${revision}, not ${lastRevision} + ${bump}`);
  }
  return await runTask({ kind: "hash-kv-bumped", path: database, revision }, signal);
}

/**
 * Up to 3.4, servers have their members from the v2 store and know of no term in the database: etcdctl puts none of either in there, and old members harm nobody until 3.5 removes them on its
 * first start. A later server must not be started on them at once, and is not: those tools are for their own minors.
 */
function asIfTrimmed(
  facts: SnapshotFacts,
  { members }: Identity,
  tool: StockRestorer,
  { minor }: DataDirectoryRequest,
): SnapshotFacts {
  if (minor !== "3.3" && minor !== "3.4") {
    throw new Fault(
      "etcd-unsupported",
      `${tool.name} leaves old members in the database, which etcd ${minor} takes for real`,
    );
  }
  return {
    ...facts,
    term: facts.term ?? restoredTerm,
    members: members.map((member) => ({ ...member, clientUrls: [], learner: false })),
    removedMembers: [],
  };
}
