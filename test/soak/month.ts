import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { simulateMinutes, type Held } from "../daemon/month.ts";

/**
 * A simulated month of a daemon at a backup a minute, with retention, a copy, proofs, metrics, log and pages: files, sockets and memory must stay flat.
 * Run: npm run soak:month [-- --days N] [--write month.txt]; the latter keeps what it says in docs/runs.
 */

const flag = (name: string): string | undefined => {
  const at = process.argv.indexOf(name);
  return at === -1 ? undefined : process.argv[at + 1];
};
const days = Number(flag("--days") ?? 30);
const written = flag("--write");
const said: string[] = [];
const say = (line: string): void => {
  said.push(line);
  console.log(line);
};
setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;
const tell = ({ hours, backups, objects, heapBytes, outsideBytes, files, handles, series }: Held): void =>
  say(
    `hour ${hours}: ${backups} backups, ${objects} objects; heap ${(heapBytes / 1e6).toFixed(1)} MB, outside ${(outsideBytes / 1e6).toFixed(1)} MB, ${files} files and sockets, ${handles} handles, ${series} series`,
  );
say(`${days} days at a backup a minute`);
const result = await simulateMinutes(days * 1440, Math.max(1, days), gc, tell);
const { committed, copied, expired, troubles, listed, listedInCopy } = result;
say(`${committed} committed, ${copied} copied, ${expired} expired; ${listed} listed, ${listedInCopy} in the copy`);
say(`troubles: ${JSON.stringify(troubles)}`);

/** What a process needs in its first hour it may keep; afterwards a fake's object may cost so much of the heap, and everything else nothing but noise. */
const heapPerObject = 2000;
const noiseBytes = 8e6;
/** Buffers of files and compressors that are in use just then. */
const noiseOutsideBytes = 16e6;
const noiseHandles = 3;
const [, steady, ...later] = result.held;
const wrong: string[] = [];
if (steady === undefined || later.length === 0) wrong.push("too short to be judged");
for (const look of later) {
  if (steady === undefined) break;
  const allowed = steady.heapBytes + noiseBytes + heapPerObject * (look.objects - steady.objects);
  if (look.heapBytes > allowed) wrong.push(`hour ${look.hours}: the heap has grown to ${look.heapBytes} bytes`);
  if (look.outsideBytes > steady.outsideBytes + noiseOutsideBytes)
    wrong.push(`hour ${look.hours}: ${look.outsideBytes} bytes outside of the heap`);
  if (look.files > steady.files + noiseHandles) wrong.push(`hour ${look.hours}: ${look.files} files and sockets`);
  if (look.handles > steady.handles + noiseHandles) wrong.push(`hour ${look.hours}: ${look.handles} handles`);
  if (look.series > steady.series + noiseHandles) wrong.push(`hour ${look.hours}: ${look.series} series`);
}
// The end may come in the middle of a backup.
const { "backup.failed": interrupted = 0, ...others } = troubles;
if (interrupted > 1 || Object.keys(others).length > 0) wrong.push("a run failed");
if (committed < days * 1440 - 2) wrong.push(`${committed} of ${days * 1440} backups were committed`);
for (const sentence of wrong) say(`WRONG ${sentence}`);
say(wrong.length === 0 ? "files, sockets and memory stayed flat" : `${wrong.length} wrong`);
if (written !== undefined)
  await writeFile(fileURLToPath(new URL(`../../docs/runs/${written}`, import.meta.url)), `${said.join("\n")}\n`);
process.exitCode = wrong.length === 0 ? 0 : 1;
