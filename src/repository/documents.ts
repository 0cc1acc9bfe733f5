import { createHash } from "node:crypto";
import { z } from "zod";
import { Fault } from "../faults.ts";
import { isUlid } from "./names.ts";

/** Building blocks of the documents in a repository: 64-bit numbers are strings, times are RFC 3339 UTC, unknown fields are kept out. */

export const ulidField = z.string().refine(isUlid, "not a ULID");
export const hexId = z.string().regex(/^[0-9a-f]{1,16}$/, "not a hexadecimal id of at most 64 bits");
export const sha256Field = z.string().regex(/^[0-9a-f]{64}$/, "not a SHA-256 in hexadecimal");
export const int64Field = z
  .string()
  // Zod goes on to the next check after one that failed, and BigInt throws: `abort` keeps it from that.
  .regex(/^-?\d{1,19}$/, { error: "not a 64-bit number", abort: true })
  .refine((text) => BigInt.asIntN(64, BigInt(text)) === BigInt(text), "not a 64-bit number")
  .transform((text) => BigInt(text));
export const uint64Field = z
  .string()
  .regex(/^\d{1,20}$/, { error: "not an unsigned 64-bit number", abort: true })
  .refine((text) => BigInt.asUintN(64, BigInt(text)) === BigInt(text), "not an unsigned 64-bit number")
  .transform((text) => BigInt(text));
export const byteCount = z.int().nonnegative();
export const timeField = z.iso.datetime({ precision: 3 });

const shortText = z.string().max(200);
/** Who wrote something: advisory, for people. */
export const authorField = z.strictObject({
  host: shortText,
  user: shortText,
  pid: z.int().nonnegative(),
  version: shortText,
});

/** JSON text of a document: bigint as decimal strings, compact, one trailing newline. */
export function writeDocument(document: unknown): Uint8Array {
  return new TextEncoder().encode(`${toJson(document)}\n`);
}

/** JSON with bigint as decimal strings; keys in the order of the value. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_, field: unknown) => (typeof field === "bigint" ? field.toString() : field), indent);
}

/** Parses bytes from a store; every reason to refuse them is a `manifest-invalid` that names the object. */
export function readDocument<T>(name: string, bytes: Uint8Array, schema: z.ZodType<T>): T {
  return checkDocument(name, parseJson(name, bytes), schema);
}

export function parseJson(name: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch (error) {
    throw new Fault("manifest-invalid", `${name} is no JSON document`, { cause: error });
  }
}

/** Every format that this version knows has the number 1; of a later one not even the fields are judged. */
const laterFormat = z.object({ schema: z.string().regex(/^etcd-lifeboat\/[a-z-]{1,40}\/v([2-9]|[1-9]\d{1,3})$/) });

export function checkDocument<T>(name: string, value: unknown, schema: z.ZodType<T>): T {
  const later = laterFormat.safeParse(value);
  if (later.success) {
    throw new Fault(
      "manifest-invalid",
      `${name} has the format ${later.data.schema}, which this version does not know`,
      {
        hint: "a newer etcd-lifeboat wrote it: install that version here, too",
      },
    );
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
  throw new Fault(
    "manifest-invalid",
    `${name} is not a document of this format${where}: ${issue?.message ?? "unknown"}`,
    {
      hint: "a newer etcd-lifeboat may have written it, or it was damaged",
    },
  );
}

/** SHA-256 of a document's stored bytes: what binds a proof to its manifest. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** etcd prints IDs as unpadded lower-case hexadecimal; so do we. */
export function formatId(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16);
}

export function formatInstant(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
