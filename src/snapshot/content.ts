import { Fault, isFault } from "../faults.ts";
import { toJson } from "../repository/documents.ts";
import type { Manifest } from "../repository/manifest.ts";
import { writeContent } from "./draft.ts";
import type { Scan } from "./take.ts";

/**
 * Reads a decoded snapshot and compares what it says of itself with what its manifest says, HashKV of all its keys from `deep` on. Rejects with `object-damaged`
 * that names every difference, and with `bolt-corrupt` where there is no whole database.
 */
export async function checkContent(
  scan: Scan,
  manifest: Manifest,
  path: string,
  level: "structure" | "deep" | "boot",
  signal: AbortSignal,
): Promise<void> {
  const { content, samples, data } = manifest;
  const facts = await named(data.object, () => scan(path, samples, signal));
  const found = { ...writeContent({ facts, drained: { ...content, version: "" } }), dbBytes: facts.dbBytes };
  const differences = checkedFields
    .filter((field) => field !== "hashKv" || level !== "structure")
    .flatMap((field) => differs(field, found[field], content[field]));
  const kept = new Set(facts.probed.map((row) => toJson(row)));
  const same = samples.filter((row) => kept.has(toJson(row))).length;
  differences.push(...differs("sampled rows", same, samples.length));
  if (differences.length === 0) return;
  throw new Fault("object-damaged", `${data.object} is not the database of its manifest: ${differences.join(", ")}`, {
    hint: "restore from another backup; keep the object for a look at the store",
  });
}

/** All of `content` but the seal, which was checked on the way, and an estimate. */
const checkedFields = [
  "revision",
  "compactRevision",
  "consistentIndex",
  "term",
  "storageVersion",
  "clusterVersion",
  "keys",
  "rows",
  "leases",
  "authEnabled",
  "dbBytes",
  "members",
  "alarms",
  "hashKv",
] as const satisfies readonly (keyof Manifest["content"])[];

function differs(what: string, found: unknown, recorded: unknown): readonly string[] {
  const [one, other] = [toJson(found), toJson(recorded)];
  if (one === other) return [];
  return [typeof found === "object" && found !== null ? what : `${what} ${one} instead of ${other}`].map((text) =>
    text.replaceAll('"', ""),
  );
}

/** What a scan complains of, said of the object that was decoded: the spool's file is gone when somebody reads it. */
async function named<T>(object: string, scan: () => Promise<T>): Promise<T> {
  try {
    return await scan();
  } catch (error) {
    if (!isFault(error, "bolt-corrupt", "snapshot-broken")) throw error;
    throw new Fault(error.code, `${object} decodes to no whole database: ${error.message}`, {
      hint: error.hint,
      cause: error,
    });
  }
}
