import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BuiltCluster, BuiltFile, DataDirectoryBuilder, DataDirectoryRequest } from "../../src/datadir/datadir.ts";
import { lifeboatBuilder } from "../../src/datadir/lifeboat.ts";

export const never = new AbortController().signal;

/** A directory for one test's files; dispose it to remove it. */
export interface Workbench extends Disposable {
  readonly directory: string;
  /** Writes a database and has it built, in a work directory of its own; ours builds unless told otherwise. */
  build(database: Uint8Array, request: DataDirectoryRequest, builder?: DataDirectoryBuilder): Promise<BuiltCluster>;
}

export function workbench(): Workbench {
  const directory = mkdtempSync(join(tmpdir(), "lifeboat-datadir-"));
  let builds = 0;
  return {
    directory,
    async build(database, request, builder = lifeboatBuilder()) {
      const own = join(directory, `build-${++builds}`);
      const work = join(own, "work");
      mkdirSync(work, { recursive: true });
      writeFileSync(join(own, "snapshot.db"), database);
      return await builder.build(join(own, "snapshot.db"), work, request, never);
    },
    [Symbol.dispose]() {
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A request for members m1, m2, … of this machine. */
export function requestFor(members: number, rest: Partial<DataDirectoryRequest> = {}): DataDirectoryRequest {
  return {
    minor: "3.6",
    token: "restore-test",
    bump: undefined,
    members: Array.from({ length: members }, (_, index) => ({
      name: `m${index + 1}`,
      peerUrls: [`http://127.0.0.${index + 1}:2380`],
    })),
    ...rest,
  };
}

/** The content of a built file, found by a part of its path. */
export async function contentOf(built: BuiltCluster, member: number, part: string): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(fileOf(built, member, part).content(never)));
}

export function fileOf(built: BuiltCluster, member: number, part: string): BuiltFile {
  const { data, wal } = built.members[member]!;
  const file = [...data, ...wal].find(({ path }) => path.includes(part));
  if (file === undefined) throw new Error(`no file ${part}`);
  return file;
}
