import { generateKeyPairSync } from "node:crypto";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { expect } from "vitest";
import type { z } from "zod";
import type { configSchema } from "../../src/config/schema.ts";
import { startCommand, type Ended, type StartOptions } from "./command.ts";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { runProgram } from "./processes.ts";
import { toolProgram } from "./servers.ts";

/** A host on which the command is installed: configuration, keys, spool and (by default) a directory store. */

export type ConfigInput = z.input<typeof configSchema>;

export interface SiteOptions {
  readonly cluster: ConfigInput["cluster"];
  /** By default a directory of the site's own. */
  readonly store?: ConfigInput["repository"]["store"];
  readonly signed?: boolean;
  readonly extras?: readonly string[];
  readonly schedules?: ConfigInput["schedules"];
}

export interface RunOptions extends StartOptions {
  /** Changes the configuration for this run alone. */
  readonly change?: (config: ConfigInput) => void;
}

export interface Site extends AsyncDisposable {
  readonly directory: string;
  readonly store: string;
  readonly spool: string;
  readonly config: ConfigInput;
  /** Files with the private halves of the two recipients. */
  readonly identities: readonly [string, string];
  /** Values that no output may ever contain; every run looks for them. */
  readonly secrets: Set<string>;
  readonly run: (args: readonly string[], options?: RunOptions) => Promise<Ended>;
  /** Runs with `--json`, expects success and parses what it says. */
  readonly json: <T = Record<string, unknown>>(args: readonly string[], options?: RunOptions) => Promise<T>;
  /** The arguments that name a configuration file, which is written for them. */
  readonly configure: (change?: RunOptions["change"]) => Promise<readonly string[]>;
  readonly expectNoSecret: (ended: Ended) => void;
  /** Names of all objects in the directory store, sorted. */
  readonly objects: () => Promise<readonly string[]>;
}

export async function openSite(options: SiteOptions): Promise<Site> {
  const directory = await makeDirectory("site");
  const store = join(directory, "store");
  const spool = join(directory, "spool");
  await mkdir(store);
  const first = await makeIdentity(join(directory, "first.key"));
  const second = await makeIdentity(join(directory, "second.key"));
  const secrets = new Set([first.secret, second.secret]);
  const config: ConfigInput = {
    cluster: options.cluster,
    repository: {
      store: options.store ?? { directory: store },
      encryption: { recipients: [first.recipient, second.recipient], identity: { file: first.path } },
      ...(options.signed === true ? { signing: await makeSigning(directory, secrets) } : {}),
      ...(options.extras === undefined ? {} : { extras: [...options.extras] }),
    },
    spool: { directory: spool },
    http: { listen: "127.0.0.1:0" },
    ...(options.schedules === undefined ? {} : { schedules: options.schedules }),
  };
  let configs = 0;

  const site: Site = {
    directory,
    store,
    spool,
    config,
    identities: [first.path, second.path],
    secrets,
    async configure(change) {
      const changed = structuredClone(config);
      change?.(changed);
      const path = join(directory, `config-${(configs += 1)}.yaml`);
      await writeFile(path, JSON.stringify(changed, null, 2)); // JSON is YAML
      return ["--config", path];
    },
    async run(args, { change, ...start } = {}) {
      const ended = await startCommand([...args, ...(await site.configure(change))], start).ended;
      site.expectNoSecret(ended);
      return ended;
    },
    async json<T>(args: readonly string[], how?: RunOptions) {
      const ended = await site.run([...args, "--json"], how);
      expect(ended.status, ended.stderr + ended.stdout).toBe(0);
      return JSON.parse(ended.stdout) as T;
    },
    expectNoSecret({ stdout, stderr }) {
      for (const secret of secrets) expect(`${stdout}${stderr}`.includes(secret), "a secret was printed").toBe(false);
    },
    async objects() {
      const found = await readdir(store, { recursive: true, withFileTypes: true });
      return found
        .filter((entry) => entry.isFile())
        .map((entry) => relative(store, join(entry.parentPath, entry.name)))
        .toSorted();
    },
    [Symbol.asyncDispose]: () => discardDirectory(directory),
  };
  return site;
}

/** The manifests among a store's objects. */
export function manifestsOf(objects: readonly string[]): readonly string[] {
  return objects.filter((name) => /^lineages\/[^/]+\/backups\/[^/]+\.json$/.test(name));
}

async function makeIdentity(path: string): Promise<{ path: string; recipient: string; secret: string }> {
  await runProgram(toolProgram("age-keygen"), ["-o", path]);
  await chmod(path, 0o600);
  const text = await readFile(path, "utf8");
  const recipient = /public key: (age1\w+)/.exec(text)?.[1];
  const secret = /^AGE-SECRET-KEY-\w+$/m.exec(text)?.[0];
  if (recipient === undefined || secret === undefined) throw new Error(`age-keygen wrote no key to ${path}`);
  return { path, recipient, secret };
}

async function makeSigning(
  directory: string,
  secrets: Set<string>,
): Promise<NonNullable<ConfigInput["repository"]["signing"]>> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" });
  const key = join(directory, "signing.pem");
  const trusted = join(directory, "signing.pub");
  await writeFile(key, pem, { mode: 0o600 });
  await writeFile(trusted, publicKey.export({ type: "spki", format: "pem" }));
  secrets.add(String(pem).split("\n")[1] ?? "");
  return { key: { file: key }, trusted: [trusted] };
}
