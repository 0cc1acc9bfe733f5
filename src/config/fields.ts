import { isAbsolute, normalize } from "node:path";
import { z } from "zod";
import { readListenerUrl, readPingUrl } from "./address.ts";
import type { Read } from "./address.ts";
import { nearest } from "./nearest.ts";
import { quote } from "./quote.ts";
import { isAgeRecipient } from "./recipient.ts";
import { durationPattern, parseDuration, parseSize, sizePattern } from "./units.ts";

/** An absolute path. */
export const path = converted("an absolute path", { pattern: "^/" }, (text) =>
  isAbsolute(text) && !text.includes("\0")
    ? { value: normalize(text) }
    : { why: `${quote(text)} is not an absolute path` },
);

/** Told of anything that is no reference; it never shows what was written. */
export const notAReference =
  "must be one of { file: /PATH }, { env: NAME } or { credential: NAME }; a secret itself never stands here (what does is not shown)";

// No message here may show what was written: it may be the secret itself.
const secretReference = z.union(
  [
    z.strictObject({
      file: z
        .string()
        .regex(/^\/(?!.*AGE-SECRET-KEY-)/, "is not an absolute path (what stands here is not shown)")
        .describe("Absolute path of a file that only its owner may read."),
    }),
    z.strictObject({
      env: z
        .string()
        .regex(
          /^[A-Za-z_][A-Za-z0-9_]{0,127}$/,
          "is no name of an environment variable (what stands here is not shown)",
        )
        .describe("Name of an environment variable."),
    }),
    z.strictObject({
      credential: z
        .string()
        .regex(
          /^(?!AGE-SECRET-KEY-)(?!\.)[A-Za-z0-9._-]{1,128}$/,
          "is no name of a credential (what stands here is not shown)",
        )
        .describe("Name of a systemd credential (LoadCredential=), a file in $CREDENTIALS_DIRECTORY."),
    }),
  ],
  { error: notAReference },
);

/** Where a secret is found; never the secret itself. */
export type SecretReference = z.output<typeof secretReference>;

/** Marks the nodes of the JSON schema where a secret's reference stands. */
export const secretTitle = "secret";

/** The reference of a secret. */
export function secret(description: string) {
  return secretReference.describe(description).meta({ title: secretTitle });
}

/** The address of a dead man's switch as it is, or where it is found; never shown, like a secret. */
export function pingUrl(description: string) {
  return z
    .union([z.string(), secretReference], {
      error:
        "must be a URL, or one of { file: /PATH }, { env: NAME } or { credential: NAME } (what stands here is not shown)",
    })
    .transform((value, context) => {
      if (typeof value !== "string") return value;
      const read = readPingUrl(value);
      if ("value" in read) return { url: read.value };
      context.issues.push({ code: "custom", message: read.why, input: "" });
      return z.NEVER;
    })
    .describe(description)
    .meta({ title: secretTitle });
}

/** A host name, or an IP address. */
export function hostName(what: string) {
  return z.string().regex(/^[A-Za-z0-9*]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$/, `is not ${what}`);
}

/** The URL of an etcd listener; becomes `scheme://host:port`. */
export function listenerUrl(defaultPort: number) {
  return converted("a URL", { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+:[0-9]{1,5}/?$" }, (value) =>
    readListenerUrl(value, defaultPort),
  );
}

/** A duration within bounds; becomes milliseconds. */
export function duration(minimumMs: number, maximumMs: number) {
  return converted("a duration such as 90s", { pattern: durationPattern }, (value) => {
    const durationMs = parseDuration(value);
    if (durationMs === undefined)
      return { why: `${quote(value)} is no duration; write a number and a unit, such as 250ms, 90s, 5m, 24h or 7d` };
    if (durationMs < minimumMs) return { why: `${quote(value)} is shorter than ${minimumMs}ms` };
    if (durationMs > maximumMs) return { why: `${quote(value)} is longer than ${maximumMs / 1000}s` };
    return { value: durationMs };
  });
}

/** A size within bounds; becomes bytes. */
export function size(minimumBytes: number, maximumBytes: number) {
  return z
    .union([z.string().meta({ pattern: sizePattern }), z.int().nonnegative()], {
      error: "must be a size such as 1024, 10MB, 512MiB or 8GiB",
    })
    .transform((value, context) => {
      const bytes = typeof value === "number" ? value : parseSize(value);
      const why =
        bytes === undefined
          ? `${quote(value)} is no size; write bytes, or a number and a unit, such as 10MB, 512MiB or 8GiB`
          : bytes < minimumBytes
            ? `${quote(value)} is less than ${minimumBytes} bytes`
            : bytes > maximumBytes
              ? `${quote(value)} is more than ${maximumBytes} bytes`
              : undefined;
      if (bytes !== undefined && why === undefined) return bytes;
      context.issues.push({ code: "custom", message: why, input: value });
      return z.NEVER;
    });
}

/** Text that becomes something else; `what` is told where no text stands. */
export function converted<T>(what: string, schema: { readonly pattern?: string }, read: (text: string) => Read<T>) {
  return z
    .string({ error: (issue) => (issue.input === undefined ? undefined : `must be ${what}`) })
    .meta(schema)
    .transform((value, context): T => {
      const result = read(value);
      if ("value" in result) return result.value;
      context.issues.push({ code: "custom", message: result.why, input: value });
      return z.NEVER;
    });
}

/** Reads the name of a time zone. */
export function readTimeZone(name: string): Read<string> {
  // Intl also takes offsets such as +02:00, which never follow daylight saving; nobody who writes one wants to find out.
  if (/^[A-Za-z]/.test(name)) {
    try {
      new Intl.DateTimeFormat("en", { timeZone: name });
      return { value: name };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  const meant = nearest(name, Intl.supportedValuesOf("timeZone"));
  return {
    why: `${quote(name)} is no time zone${meant === undefined ? "; write a name such as UTC or Europe/Berlin" : `; did you mean ${meant}?`}`,
  };
}

/** The public key of an age identity. */
export const recipient = z
  .string()
  .refine(isAgeRecipient, { error: (issue) => whyNoRecipient(issue.input) })
  .meta({ pattern: "^age1[02-9ac-hj-np-z]{58}$" });

function whyNoRecipient(input: unknown): string {
  if (typeof input !== "string") return "must be a public key as age-keygen prints it";
  if (/AGE-SECRET-KEY-/i.test(input)) return "is a private key (not shown); write its public key: age-keygen -y FILE";
  if (/^age1[a-z0-9]+1/.test(input) || input.startsWith("ssh-")) {
    return `${quote(input)} is a recipient of a kind that is not supported; write a public key as age-keygen prints it (age1..., 62 characters)`;
  }
  return `${quote(input)} is no age recipient: a character is wrong or missing; write a public key as age-keygen prints it (age1..., 62 characters)`;
}
