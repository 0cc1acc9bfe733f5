import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestMember } from "./member.ts";

/**
 * Changes a value in a stopped member's database as a failing disk or a bug would: in place, unnoticed, since bbolt keeps no checksum of a page.
 * Every copy is changed, also those in pages that are free. Both texts must have the same number of bytes.
 */
export async function editValue(member: TestMember, from: string, to: string): Promise<void> {
  if (member.running) throw new Error(`${member.name} runs: its database is edited only while it is stopped`);
  if (Buffer.byteLength(from) !== Buffer.byteLength(to)) throw new Error("an edit in place keeps the length");
  const path = join(member.dataDirectory, "member/snap/db");
  const bytes = await readFile(path);
  await using file = await open(path, "r+");
  let edits = 0;
  for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1)) {
    await file.write(Buffer.from(to), 0, Buffer.byteLength(to), at);
    edits += 1;
  }
  if (edits === 0) throw new Error(`${member.name} holds no value ${from}`);
}
