import { mkdir, readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openDirectoryStore } from "../../src/store/directory.ts";
import { openS3Store } from "../../src/store/s3.ts";
import type { Store } from "../../src/store/store.ts";
import { plantBackup, plantData, plantLineage, plantRepository, type Planted } from "../repository/plant.ts";
import { startCommand, type Ended } from "./command.ts";
import type { TestS3 } from "./s3.ts";

/** A repository without a cluster, for the real command: retention never asks etcd. */
export interface Place {
  readonly store: Store;
  readonly config: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where the store keeps its objects as files. */
  readonly files: string;
}

let places = 0;

/** A new place in a bucket, of a server that keeps objects as files, or in a directory below `parent`. */
export async function openPlace(
  parent: string,
  s3?: { readonly server: TestS3; readonly bucket: string },
  retention: object = { last: 2, minProven: 1 },
  copies: readonly object[] = [],
): Promise<Place> {
  places += 1;
  const root = join(parent, `place-${places}`);
  const prefix = `prod-${places}`;
  await mkdir(root, { recursive: true });
  const config = join(root, "config.yaml");
  const directory = join(root, "store");
  await mkdir(directory, { recursive: true });
  const at = s3 && { bucket: s3.bucket, prefix, endpoint: s3.server.url, region: s3.server.region };
  await writeFile(
    config,
    JSON.stringify({
      cluster: { name: "prod", endpoints: ["http://127.0.0.1:1"] },
      repository: { store: at === undefined ? { directory } : { s3: { ...at, pathStyle: true } }, copies },
      spool: { directory: join(root, "spool") },
      retention,
    }),
  );
  if (s3 === undefined || at === undefined) {
    return { store: openDirectoryStore({ directory }), config, env: {}, files: directory };
  }
  const { server, bucket } = s3;
  const credentials = { accessKeyId: server.accessKey, secretAccessKey: server.secretKey };
  return {
    store: openS3Store({ ...at, credentials }),
    config,
    env: { AWS_ACCESS_KEY_ID: server.accessKey, AWS_SECRET_ACCESS_KEY: server.secretKey },
    files: join(server.directory, bucket, prefix),
  };
}

const newest = Date.UTC(2026, 2, 1, 12);

/** So many hourly backups, oldest first, and the data of a run that died. */
export async function plantAll({ store }: Place, backups: number): Promise<readonly Planted[]> {
  await plantRepository(store);
  await plantLineage(store);
  const planted: Planted[] = [];
  for (let index = backups - 1; index >= 0; index -= 1)
    planted.push(await plantBackup(store, { timeMs: newest - index * 3_600_000, schedule: "hourly" }));
  await plantData(store);
  return planted;
}

/** Makes everything whose name contains this older, as far as the store's dates go. */
export async function age({ files }: Place, part: string, days: number): Promise<number> {
  let aged = 0;
  for (const entry of await readdir(files, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !path.includes(part)) continue;
    const then = new Date(Date.now() - days * 86_400_000);
    await utimes(path, then, then);
    aged += 1;
  }
  return aged;
}

export async function command(
  place: Place,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  return await startCommand([...args, "--config", place.config], { env: { ...place.env, ...env } }).ended;
}

export interface Expired {
  readonly backups: readonly { readonly backup: string; readonly keep: boolean; readonly reasons: readonly string[] }[];
  readonly orphans: number;
  readonly outcome: {
    readonly expired: number;
    readonly objects: number;
    readonly orphans: number;
    readonly locked: number;
    readonly lockedUntil: string | null;
    readonly left: number;
  };
}

export async function expire(place: Place): Promise<Expired> {
  const ended = await command(place, ["expire", "--yes", "--json"]);
  if (ended.status !== 0) throw new Error(`expire ended with ${ended.status}: ${ended.stderr}`);
  return JSON.parse(ended.stdout) as Expired;
}

export async function listed(place: Place, ...more: readonly string[]): Promise<readonly string[]> {
  const ended = await command(place, ["list", "--json", ...more]);
  if (ended.status !== 0) throw new Error(`list ended with ${ended.status}: ${ended.stderr}`);
  return (JSON.parse(ended.stdout) as { backups: { backup: string }[] }).backups.map(({ backup }) => backup);
}
