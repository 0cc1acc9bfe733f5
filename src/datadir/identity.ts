import { createHash } from "node:crypto";
import { Fault } from "../faults.ts";
import type { DataDirectoryRequest, PlannedMember } from "./datadir.ts";

/** Who is in a new cluster. */
export interface Identity {
  readonly clusterId: bigint;
  /** By ascending ID, as etcd orders them. */
  readonly members: readonly IdentifiedMember[];
}

export interface IdentifiedMember {
  readonly name: string;
  readonly id: bigint;
  /** Sorted, as etcd sorts them. */
  readonly peerUrls: readonly string[];
}

/**
 * Makes the IDs as etcd does for members that were there from the start (server/etcdserver/api/membership): the first 8 bytes of the SHA-1 of a member's sorted peer URLs and
 * the token, and of all member IDs. Faults: `usage` for a request that no etcd would take, `datadir-refused` for an address that Go might write otherwise than we do.
 */
export function identify({ members, token }: Pick<DataDirectoryRequest, "members" | "token">): Identity {
  if (members.length === 0) throw new Fault("usage", "a cluster has one member at least");
  if (token === "") throw new Fault("usage", "the new cluster needs a token of its own");
  const identified = members.map((member) => {
    checkName(member);
    if (member.peerUrls.length === 0) throw new Fault("usage", `member ${member.name} has no peer URL`);
    for (const url of member.peerUrls) checkUrl(member, url);
    const peerUrls = member.peerUrls.toSorted();
    return { name: member.name, id: firstBytes(Buffer.from(`${peerUrls.join("")}${token}`)), peerUrls };
  });
  for (const [what, all] of [
    ["name", members.map(({ name }) => name)],
    ["peer URL", members.flatMap(({ peerUrls }) => peerUrls)],
    ["ID", identified.map(({ id }) => hexId(id))],
  ] as const) {
    const twice = all.find((one, index) => all.indexOf(one) !== index);
    if (twice !== undefined) throw new Fault("usage", `the ${what} ${twice} is given twice`);
  }
  const ascending = identified.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const ids = Buffer.alloc(ascending.length * 8);
  for (const [index, { id }] of ascending.entries()) ids.writeBigUInt64BE(id, index * 8);
  return { clusterId: firstBytes(ids), members: ascending };
}

function firstBytes(bytes: Uint8Array): bigint {
  return createHash("sha1").update(bytes).digest().readBigUInt64BE();
}

/** As etcd writes IDs in keys and paths: not padded. */
export function hexId(id: bigint): string {
  return id.toString(16);
}

/** The member as etcd stores it until it has started and published its client URLs. */
export function memberJson({ id, peerUrls, name }: IdentifiedMember): string {
  // An ID is a bare number, and more than a JavaScript number holds.
  return `{"id":${id},"peerURLs":${goJson(peerUrls)},"name":${goJson(name)}}`;
}

/** JSON as Go's encoder writes it, for text without control characters. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function checkName({ name }: PlannedMember): void {
  // etcd's own flag cuts names at these two.
  if (name === "" || /[=,]/.test(name)) throw new Fault("usage", `${JSON.stringify(name)} is no name of a member`);
  if (/\p{Cc}/u.test(name) || !name.isWellFormed()) {
    throw new Fault("datadir-refused", `the name ${JSON.stringify(name)} has characters that are not written here`, {
      hint: "let etcd's own tool build: --builder etcdutl",
    });
  }
}

/** Narrower than Go's: of these, Go's parser changes no letter. */
const plainUrl = /^(?:https?|unixs?):\/\/(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]):(\d{1,5})$/;

function checkUrl({ name }: PlannedMember, url: string): void {
  const port = Number(plainUrl.exec(url)?.[1] ?? 0);
  if (port < 1 || port > 65_535) {
    throw new Fault(
      "datadir-refused",
      `the peer URL ${JSON.stringify(url)} of member ${name} is none that is known here`,
      {
        hint: "a peer URL is scheme, host and port, such as https://10.0.0.1:2380; for others: --builder etcdutl",
      },
    );
  }
}
