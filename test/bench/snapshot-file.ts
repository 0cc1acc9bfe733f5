import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { writeDatabase } from "../bolt/write-database.ts";

/** Three rows of four are the newest of their key: 1.1 GB. */
const shape = { rows: 360_000, keys: 270_000, valueBytes: 3000 };

/** A snapshot with its seal, as a member of 3.6 would send it whose cluster has members of these names; made here, since putting so much takes minutes. */
export async function writeSnapshot(path: string, names: readonly string[]): Promise<void> {
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(value));
    return bytes;
  };
  const revision = (main: number): Buffer => Buffer.concat([number(main), Buffer.from("_"), number(0)]);
  const field = (tag: number, bytes: Buffer): Buffer =>
    Buffer.concat([Buffer.of(tag, (bytes.length & 127) | 128, bytes.length >> 7), bytes]);
  const row = (index: number): Buffer => {
    const name = Buffer.from(`/registry/pods/namespace-${index % 97}/pod-${index % shape.keys}`);
    return Buffer.concat([
      field(0x0a, name),
      Buffer.of(0x20, 1),
      field(0x2a, Buffer.alloc(shape.valueBytes, `${index} `)),
    ]);
  };
  const members = names.map((name, index) => ({
    id: index + 1,
    peerURLs: [`http://127.0.0.1:${index + 1}`],
    name,
    clientURLs: ["http://127.0.0.1:99"],
  }));
  const text = (key: string, value: string): { readonly key: Buffer; readonly value: Buffer } => ({
    key: Buffer.from(key),
    value: Buffer.from(value),
  });
  const empty = { alarm: [], auth: [], authRoles: [], authUsers: [], lease: [], members_removed: [] };
  const db = writeDatabase({
    ...empty,
    cluster: [text("clusterVersion", "3.6.0")],
    key: Array.from({ length: shape.rows }, (_, index) => ({ key: revision(index + 2), value: row(index) })),
    members: members.map((member) => text(String(member.id), JSON.stringify(member))),
    meta: [
      text("confState", JSON.stringify({ voters: members.map(({ id }) => id), auto_leave: false })),
      { key: Buffer.from("consistent_index"), value: number(shape.rows) },
      text("storageVersion", "3.6.0"),
      { key: Buffer.from("term"), value: number(2) },
    ],
  });
  const file = createWriteStream(path);
  file.write(db);
  file.end(createHash("sha256").update(db).digest());
  await once(file, "finish");
}
