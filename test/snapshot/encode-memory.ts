/** Run by encode.test.ts in a process of its own: encodes and decodes 300 MB, and prints by how much its memory grew. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { parseRecipient } from "../../src/snapshot/age.ts";
import { encodeBech32 } from "../../src/snapshot/bech32.ts";
import { ephemeralKey } from "../../src/snapshot/age-keys.ts";
import { decodeStored, encodeSpool } from "../../src/snapshot/encode.ts";
import { calm, seededBytes } from "./bytes.ts";

const plainBytes = 300_000_000;
const spool = process.argv[2] ?? "";
const stored = `${spool}.stored`;

await writeSpool();
const startBytes = process.memoryUsage.rss();
let peakBytes = startBytes;
const look = (): void => {
  peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
};

const recipients = [parseRecipient(encodeBech32("age", ephemeralKey().share))];
const encoding = encodeSpool(spool, { plainBytes, compressionLevel: 1, recipients }, calm);
const output = await open(stored, "w");
for await (const chunk of encoding.bytes) {
  await output.write(chunk);
  look();
}
await output.close();
const encodeBytes = peakBytes - startBytes;

if (encoding.fileKey === undefined) throw new Error("a file key is expected");
const object = { ...encoding.facts(), encryption: { kind: "file-key", fileKey: encoding.fileKey } } as const;
let decodedBytes = 0;
for await (const chunk of decodeStored(createReadStream(stored), object, calm)) {
  decodedBytes += chunk.length;
  look();
}
console.log(JSON.stringify({ encodeBytes, decodeBytes: peakBytes - startBytes, plainBytes: decodedBytes }));

/** A mix of zeros, noise and something between, as a database file has. */
async function writeSpool(): Promise<void> {
  const mixed = seededBytes(1_000_000);
  const zeros = Buffer.alloc(1_000_000);
  const file = await open(spool, "w");
  for (let megabyte = 0; megabyte < plainBytes / 1_000_000; megabyte++) {
    if (megabyte % 3 !== 0) crypto.getRandomValues(mixed.subarray(0, 65_536));
    await file.write(megabyte % 3 === 0 ? zeros : mixed);
  }
  await file.close();
}
