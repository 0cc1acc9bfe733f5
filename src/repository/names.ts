import { Fault } from "../faults.ts";

/**
 * The grammar of object names in a repository. Names that come from a store are parsed by it, never joined or trusted;
 * what does not fit is foreign and is left alone.
 */

/** Crockford base32, 26 characters, time first: sorts by creation. */
const ulid = "[0-7][0-9A-HJKMNP-TV-Z]{25}";
const stamp = "\\d{8}T\\d{6}Z";
const schedule = "[a-z0-9][a-z0-9-]{0,30}";

const ulidPattern = new RegExp(`^${ulid}$`);
const schedulePattern = new RegExp(`^${schedule}$`);
const slotPattern = new RegExp(`^(${stamp})\\.slot\\.(${schedule})$`);
const demandPattern = new RegExp(`^(${stamp})\\.demand\\.(${ulid})$`);
const lineagePattern = new RegExp(`^lineages/(${ulid})/lineage\\.json$`);
const snapshotPattern = new RegExp(
  `^${ulid}\\.(?:db\\.zst|db\\.zst\\.age|extras\\.tar\\.zst|extras\\.tar\\.zst\\.age|RESTORE\\.md)$`,
);
const manifestPattern = new RegExp(`^lineages/(${ulid})/backups/([^/]+)\\.json$`);
const proofPattern = new RegExp(
  `^lineages/(${ulid})/proofs/([^/]+)\\.(?:(hashkv)\\.(proven|sealed)|(boot)\\.(passed|failed))\\.(${ulid})\\.json$`,
);

const pinPattern = new RegExp(`^lineages/(${ulid})/pins/([^/]+)\\.([1-9]\\d{0,5})\\.json$`);
const piecePattern = new RegExp(`^operations/(${ulid})/(\\d{6})\\.jsonl$`);
const gonePattern = new RegExp(`^lineages/(${ulid})/gone/(${ulid})\\.json$`);

export const repositoryDocumentName = "repository.json";
export const lineagesPrefix = "lineages/";
/** Where copies of the journals of operations are. */
export const operationsPrefix = "operations/";

/** What a backup's name says. Slots are whole seconds. */
export type BackupName =
  | { readonly kind: "slot"; readonly timeMs: number; readonly schedule: string }
  | { readonly kind: "demand"; readonly timeMs: number; readonly id: string };

export function isUlid(text: string): boolean {
  return ulidPattern.test(text);
}

export function isScheduleName(text: string): boolean {
  return schedulePattern.test(text);
}

/** `20261121T090000Z` for milliseconds since 1970; parts of a second are cut off. */
export function formatStamp(timeMs: number): string {
  return new Date(timeMs)
    .toISOString()
    .replace(/\.\d{3}Z$/, "Z")
    .replaceAll(/[-:]/g, "");
}

/** Milliseconds since 1970, or undefined when the text is no real UTC second. */
export function parseStamp(text: string): number | undefined {
  const match = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second] = match;
  const timeMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(timeMs) || formatStamp(timeMs) !== text ? undefined : timeMs;
}

/** The id of a backup, as people type it and as its manifest's key carries it. */
export function formatBackupName(name: BackupName): string {
  const time = formatStamp(name.timeMs);
  return name.kind === "slot" ? `${time}.slot.${name.schedule}` : `${time}.demand.${name.id}`;
}

/** Parses a backup's id strictly; undefined when it is none. */
export function parseBackupName(text: string): BackupName | undefined {
  const slot = slotPattern.exec(text);
  if (slot !== null) {
    const timeMs = parseStamp(slot[1] ?? "");
    return timeMs === undefined ? undefined : { kind: "slot", timeMs, schedule: slot[2] ?? "" };
  }
  const demand = demandPattern.exec(text);
  if (demand !== null) {
    const timeMs = parseStamp(demand[1] ?? "");
    return timeMs === undefined ? undefined : { kind: "demand", timeMs, id: demand[2] ?? "" };
  }
  return undefined;
}

export function lineageDocumentName(lineage: string): string {
  return `${lineagesPrefix}${known(lineage)}/lineage.json`;
}

function manifestsPrefix(lineage: string): string {
  return `${lineagesPrefix}${known(lineage)}/backups/`;
}

export function manifestName(lineage: string, backup: string): string {
  if (parseBackupName(backup) === undefined) throw new Fault("usage", `"${backup}" is no backup id`);
  return `${manifestsPrefix(lineage)}${backup}.json`;
}

/** What a proof's name says: whose it is, and what it found. Only the document itself proves anything. */
export type ProofName = { readonly backup: string; readonly id: string } & (
  | { readonly kind: "hashkv"; readonly verdict: "proven" | "sealed" }
  | { readonly kind: "boot"; readonly verdict: "passed" | "failed" }
);

export function proofName(lineage: string, proof: ProofName): string {
  if (parseBackupName(proof.backup) === undefined) throw new Fault("usage", `"${proof.backup}" is no backup id`);
  return `${lineagesPrefix}${known(lineage)}/proofs/${proof.backup}.${proof.kind}.${proof.verdict}.${known(proof.id)}.json`;
}

/** Pins and unpins of a backup are numbered from 1; the highest number decides. */
export function pinName(lineage: string, backup: string, number: number): string {
  if (parseBackupName(backup) === undefined) throw new Fault("usage", `"${backup}" is no backup id`);
  return `${lineagesPrefix}${known(lineage)}/pins/${backup}.${number}.json`;
}

/** Says that the data objects of this snapshot are given up; in a folder of its own, since listings pass over the data. */
export function goneName(lineage: string, snapshot: string): string {
  return `${lineagesPrefix}${known(lineage)}/gone/${known(snapshot)}.json`;
}

/** Where the data objects of a lineage are. */
export function snapshotsPrefix(lineage: string): string {
  return `${lineagesPrefix}${known(lineage)}/snapshots/`;
}

/** Data objects of one backup: each is `<prefix><suffix>`, so that they are found and collected together. */
export function snapshotObjects(
  lineage: string,
  id: string,
  encrypted: boolean,
): Record<"data" | "extras" | "note", string> {
  const prefix = `${snapshotsPrefix(lineage)}${known(id)}`;
  const tail = encrypted ? ".zst.age" : ".zst";
  return { data: `${prefix}.db${tail}`, extras: `${prefix}.extras.tar${tail}`, note: `${prefix}.RESTORE.md` };
}

/** True for a name that a data object of this lineage can have; a manifest that names anything else was made by nobody of us. */
export function isSnapshotObject(lineage: string, name: string): boolean {
  const prefix = `${lineagesPrefix}${lineage}/snapshots/`;
  return name.startsWith(prefix) && snapshotPattern.test(name.slice(prefix.length));
}

/** The id of the snapshot to which a data object belongs; only for an `isSnapshotObject`. */
export function snapshotOf(object: string): string {
  return object.slice(object.lastIndexOf("/") + 1).slice(0, 26);
}

/** Where the copy of one operation's journal is. */
export function operationPrefix(operation: string): string {
  return `${operationsPrefix}${known(operation)}/`;
}

/** A piece of an operation's journal: some lines of it, the first of which has this number; the plan is line 0. */
export function operationPieceName(operation: string, line: number): string {
  if (!Number.isInteger(line) || line < 0 || line > 999_999) throw new Fault("usage", `no journal has a line ${line}`);
  return `${operationPrefix(operation)}${String(line).padStart(6, "0")}.jsonl`;
}

/** Parses the name of a piece of a journal strictly; undefined when it is none. */
export function parseOperationPiece(text: string): { readonly operation: string; readonly line: number } | undefined {
  const match = piecePattern.exec(text);
  return match === null ? undefined : { operation: match[1] ?? "", line: Number(match[2]) };
}

/** What an object name in a listing is; undefined for everything that is foreign. */
export type ListedName =
  | { readonly kind: "lineage"; readonly lineage: string }
  | { readonly kind: "manifest"; readonly lineage: string; readonly backup: string; readonly name: BackupName }
  | { readonly kind: "proof"; readonly lineage: string; readonly proof: ProofName }
  | { readonly kind: "pin"; readonly lineage: string; readonly backup: string; readonly number: number }
  | { readonly kind: "gone"; readonly lineage: string; readonly snapshot: string };

export function parseObjectName(text: string): ListedName | undefined {
  const lineage = lineagePattern.exec(text);
  if (lineage !== null) return { kind: "lineage", lineage: lineage[1] ?? "" };
  const manifest = manifestPattern.exec(text);
  if (manifest === null) return parseProofObject(text) ?? parsePinObject(text) ?? parseGoneObject(text);
  const backup = manifest[2] ?? "";
  const name = parseBackupName(backup);
  return name === undefined ? undefined : { kind: "manifest", lineage: manifest[1] ?? "", backup, name };
}

function parseProofObject(text: string): ListedName | undefined {
  const match = proofPattern.exec(text);
  if (match === null) return undefined;
  const [, lineage = "", backup = "", hashkv, hashkvVerdict, , bootVerdict, id = ""] = match;
  if (parseBackupName(backup) === undefined) return undefined;
  const found: Pick<ProofName, "kind" | "verdict"> =
    hashkv === undefined
      ? { kind: "boot", verdict: bootVerdict === "passed" ? "passed" : "failed" }
      : { kind: "hashkv", verdict: hashkvVerdict === "proven" ? "proven" : "sealed" };
  return { kind: "proof", lineage, proof: { backup, id, ...found } as ProofName };
}

function parsePinObject(text: string): ListedName | undefined {
  const match = pinPattern.exec(text);
  if (match === null) return undefined;
  const [, lineage = "", backup = "", number] = match;
  return parseBackupName(backup) === undefined ? undefined : { kind: "pin", lineage, backup, number: Number(number) };
}

function parseGoneObject(text: string): ListedName | undefined {
  const match = gonePattern.exec(text);
  return match === null ? undefined : { kind: "gone", lineage: match[1] ?? "", snapshot: match[2] ?? "" };
}

function known(id: string): string {
  if (!isUlid(id)) throw new Fault("usage", `"${id}" is no id of a lineage, snapshot or operation`);
  return id;
}
