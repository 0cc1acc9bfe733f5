import { crc32c } from "../crc32c.ts";
import { Fault } from "../faults.ts";
import { goJson, hexId, type Identity } from "./identity.ts";
import type { Minor } from "./minors.ts";
import { bytesOf, integerOf, message, readFields } from "./proto.ts";
import { encodeVoters, restoredTerm } from "./wal.ts";

/** The .snap of a restored member, as etcdutl of the minor writes it: {1 CRC-32C, 2 raft snapshot {1 v2 store, 2 {1 voters, 2 index, 3 term}}}. */
export function encodeSnap(identity: Identity, minor: Minor): Buffer {
  const index = BigInt(identity.members.length);
  const metadata = message([1, encodeVoters(identity, minor)], [2, index], [3, restoredTerm]);
  const snapshot = message([1, Buffer.from(v2Store(identity, minor))], [2, metadata]);
  return message([1, BigInt(crc32c(snapshot))], [2, snapshot]);
}

export interface SnapFacts {
  readonly index: bigint;
  readonly term: bigint;
  readonly voters: readonly bigint[];
  /** JSON of the v2 store. */
  readonly store: string;
}

/** Fault `datadir-damaged` for a file that is no .snap, or whose CRC does not fit. */
export function decodeSnap(bytes: Uint8Array, what: string): SnapFacts {
  const outer = readFields(bytes, what);
  const snapshot = bytesOf(outer, 2);
  if (integerOf(outer, 1) !== BigInt(crc32c(snapshot)))
    throw new Fault("datadir-damaged", `the CRC of ${what} differs`);
  const inner = readFields(snapshot, what);
  const metadata = readFields(bytesOf(inner, 2), what);
  const voters = readFields(bytesOf(metadata, 1), what).filter(({ number }) => number === 1);
  return {
    index: integerOf(metadata, 2),
    term: integerOf(metadata, 3),
    voters: voters.flatMap(({ value }) => (typeof value === "bigint" ? [value] : [])),
    store: Buffer.from(bytesOf(inner, 1)).toString("utf8"),
  };
}

/** Slots of the event history, empty ones written as null. */
const historySlots = 1000;
/** Whoever reads a path of the v2 store that is not there counts one; etcdutl does so from 3.6 on. */
const failedGets = (minor: Minor): number => (minor === "3.6" || minor === "3.7" ? 1 : 0);

/** The v2 store after the members were added, which is where etcd up to 3.5 has its members from. */
function v2Store({ members }: Identity, minor: Minor): string {
  const paths = members.map(({ id, peerUrls }, index) => ({
    id: hexId(id),
    at: index + 1,
    attributes: goJson({ peerURLs: peerUrls }),
  }));
  const nodes = paths
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map(({ id, at, attributes }) => {
      const leaf = node(`/0/members/${id}/raftAttributes`, at, attributes, "null");
      return `"${id}":${node(`/0/members/${id}`, at, "", `{"raftAttributes":${leaf}}`)}`;
    });
  const membersNode = node("/0/members", 1, "", `{${nodes.join()}}`);
  const root = node(
    "/",
    0,
    "",
    `{"0":${node("/0", 0, "", `{"members":${membersNode}}`)},"1":${node("/1", 0, "", "{}")}}`,
  );
  const events = Array.from({ length: historySlots }, (_, index) => {
    const path = paths[index];
    if (path === undefined) return "null";
    const { id, at, attributes } = path;
    const key = `/0/members/${id}/raftAttributes`;
    return goJson({ action: "create", node: { key, value: attributes, modifiedIndex: at, createdIndex: at } });
  });
  const count = members.length;
  const queue = `{"Events":[${events.join()}],"Size":${count},"Front":0,"Back":${count},"Capacity":${historySlots}}`;
  const hub = `{"EventHistory":{"Queue":${queue},"StartIndex":1,"LastIndex":${count}}}`;
  const stats = goJson({
    getsSuccess: 0,
    getsFail: failedGets(minor),
    setsSuccess: 0,
    setsFail: 0,
    deleteSuccess: 0,
    deleteFail: 0,
    updateSuccess: 0,
    updateFail: 0,
    createSuccess: count,
    createFail: 0,
    compareAndSwapSuccess: 0,
    compareAndSwapFail: 0,
    compareAndDeleteSuccess: 0,
    compareAndDeleteFail: 0,
    expireCount: 0,
    watchers: 0,
  });
  return `{"Root":${root},"WatcherHub":${hub},"CurrentIndex":${count},"Stats":${stats},"CurrentVersion":2}`;
}

function node(path: string, index: number, value: string, children: string): string {
  const fields = goJson({
    Path: path,
    CreatedIndex: index,
    ModifiedIndex: index,
    ExpireTime: "0001-01-01T00:00:00Z",
    Value: value,
  });
  return `${fields.slice(0, -1)},"Children":${children}}`;
}
