import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import type { Stats } from "node:fs";
import { isAbsolute, join } from "node:path";
import { inspect } from "node:util";
import type { Environment } from "./fill.ts";
import type { SecretReference } from "./fields.ts";
import { Fault } from "../faults.ts";

/** Larger than any key or password; what is larger is another file. */
const maximumSecretBytes = 64 * 1024;

/**
 * A secret in memory. Printing, logging, spreading, joining and JSON give "(secret)"; only `reveal` gives the value,
 * so that every place that has it can be found.
 */
export class Redacted {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return "(secret)";
  }

  toJSON(): string {
    return "(secret)";
  }

  [inspect.custom](): string {
    return "(secret)";
  }
}

/** Where a secret is, for people: `file /etc/etcd-lifeboat/password`. */
export function describeSecret(reference: SecretReference): string {
  if ("file" in reference) return `file ${reference.file}`;
  if ("env" in reference) return `environment variable ${reference.env}`;
  return `credential ${reference.credential}`;
}

/**
 * Reads a secret: at most 64 KiB of UTF-8, newlines at its end trimmed, never empty. A file must belong to its owner alone;
 * a credential is guarded by systemd. Rejects with `secret-unreadable`, which names the place and never the value.
 */
export function readSecret(reference: SecretReference, env: Environment): Promise<Redacted> {
  return Promise.try(() => new Redacted(secretNow(reference, env)));
}

/** Says why `readSecret` would fail now, or why what it would give is unfit, without keeping the value; undefined: neither. */
export function whySecretUnreadable(
  reference: SecretReference,
  env: Environment,
  whyUnfit: (value: string) => string | undefined = () => undefined,
): Fault | undefined {
  try {
    const why = whyUnfit(secretNow(reference, env));
    return why === undefined ? undefined : new Fault("secret-unreadable", `${describeSecret(reference)} ${why}`);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

/** A few bytes from a local file: reading them at once is simpler than waiting, and `config check` needs no loop. */
function secretNow(reference: SecretReference, env: Environment): string {
  if ("env" in reference) return secretOfVariable(reference.env, env);
  const { path, about } = secretFile(reference, env);
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      refuseUnfit(fstatSync(descriptor), path, about, "file" in reference);
      return secretText(readFileSync(descriptor), about);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault("secret-unreadable", `${about} ${whyUnreadable(error)}`, { cause: error });
  }
}

function secretOfVariable(name: string, env: Environment): string {
  const value = env[name];
  if (value === undefined || value === "") {
    const hint = `set ${name}, or name a file or a credential instead`;
    throw new Fault("secret-unreadable", `environment variable ${name} is not set`, { hint });
  }
  // ETCDCTL_USER is user:password, as etcdctl reads it.
  if (name !== "ETCDCTL_USER") return value;
  return value.slice(value.indexOf(":") + 1);
}

function secretFile(
  reference: Exclude<SecretReference, { env: string }>,
  env: Environment,
): { readonly path: string; readonly about: string } {
  if ("file" in reference) return { path: reference.file, about: reference.file };
  const name = reference.credential;
  const directory = env["CREDENTIALS_DIRECTORY"];
  if (directory === undefined || !isAbsolute(directory)) {
    throw new Fault("secret-unreadable", `credential ${name} cannot be read: CREDENTIALS_DIRECTORY is not set`, {
      hint: `run under systemd with LoadCredential=${name}:/PATH, or name a file instead`,
    });
  }
  const path = join(directory, name);
  return { path, about: `credential ${name} (${path})` };
}

function refuseUnfit(stats: Stats, path: string, about: string, modeMatters: boolean): void {
  if (!stats.isFile()) throw new Fault("secret-unreadable", `${about} is not a regular file`);
  if (stats.size > maximumSecretBytes) {
    throw new Fault("secret-unreadable", `${about} is larger than ${maximumSecretBytes} bytes, so no secret of ours`);
  }
  // Not for credentials: systemd shows their ACL as group rights, in a directory that nobody else can enter.
  if (modeMatters && (stats.mode & 0o077) !== 0) {
    const mode = (stats.mode & 0o777).toString(8).padStart(4, "0");
    throw new Fault("secret-unreadable", `${about} is open to others than its owner (mode ${mode})`, {
      hint: `run: chmod 600 ${path}, and make the user that runs etcd-lifeboat its owner; or use a systemd credential`,
    });
  }
}

function secretText(bytes: Uint8Array, about: string): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    // The decoder's error may quote the bytes; its cause is not kept.
    throw new Fault("secret-unreadable", `${about} is not UTF-8 text`);
  }
  const trimmed = text.replace(/[\r\n]+$/, "");
  if (trimmed === "") throw new Fault("secret-unreadable", `${about} is empty`);
  return trimmed;
}

/** What a failed open or read means, with the user who tried. */
export function whyUnreadable(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const uid = process.geteuid?.();
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return "does not exist";
    case "EACCES":
    case "EPERM":
      return `may not be read by the user that runs this${uid === undefined ? "" : ` (uid ${uid})`}`;
    case "EISDIR":
      return "is a directory";
    default:
      return `cannot be read (${typeof code === "string" ? code : String(error)})`;
  }
}

/** True where the rights of the file or of a directory on the way forbid it. */
export function isDenied(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "EACCES" || error.code === "EPERM");
}
