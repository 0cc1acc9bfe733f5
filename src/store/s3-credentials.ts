import { readFile, stat } from "node:fs/promises";
import { Fault } from "../faults.ts";

/** Keys as S3 wants them. Never printed. */
export interface S3Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/**
 * Credentials in a file of the AWS shared-credentials format. Each call gives the keys as they are now: the file is read again
 * whenever it is another one, and the same object comes back while it is not. Rejects with `secret-unreadable`.
 */
export function openCredentialsFile(path: string, profile = "default"): () => Promise<S3Keys> {
  let known: { readonly stamp: string; readonly keys: S3Keys } | undefined;
  return async () => {
    try {
      const { mtimeNs, ino, size } = await stat(path, { bigint: true });
      const stamp = `${mtimeNs}.${ino}.${size}`;
      if (known?.stamp !== stamp)
        known = { stamp, keys: parseCredentials(await readFile(path, "utf8"), path, profile) };
      return known.keys;
    } catch (error) {
      if (error instanceof Fault) throw error;
      throw new Fault("secret-unreadable", `credentials file ${path} cannot be read`, {
        cause: error,
        hint: "it must exist and be readable by the user that etcd-lifeboat runs as",
      });
    }
  };
}

/** Sections in brackets, `name = value` lines, comments with # or ; as the AWS tools read them. */
function parseCredentials(text: string, path: string, profile: string): S3Keys {
  const found: Record<string, string> = {};
  let section = "";
  for (const line of text.split(/\r?\n/)) {
    const header = /^\s*\[\s*(?:profile\s+)?([^\]]+?)\s*\]/.exec(line);
    if (header?.[1] !== undefined) {
      section = header[1];
      continue;
    }
    const pair = /^\s*([A-Za-z_]+)\s*=\s*(.*?)\s*$/.exec(line);
    if (section === profile && pair?.[1] !== undefined && pair[2] !== undefined) found[pair[1].toLowerCase()] = pair[2];
  }
  const {
    aws_access_key_id: accessKeyId,
    aws_secret_access_key: secretAccessKey,
    aws_session_token: sessionToken,
  } = found;
  if (accessKeyId === undefined || secretAccessKey === undefined || accessKeyId === "" || secretAccessKey === "") {
    throw new Fault("secret-unreadable", `credentials file ${path} has no keys in its section [${profile}]`, {
      hint: "it needs aws_access_key_id and aws_secret_access_key",
    });
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}
