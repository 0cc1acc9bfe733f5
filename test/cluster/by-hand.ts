import { copyFile, mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { runProgram } from "./processes.ts";
import { etcdProgram, toolProgram } from "./servers.ts";

/** Follows RESTORE.md as a person would: its commands, word for word, with stock tools and nothing of ours. */

export interface Restored {
  /** Data directories by member name. */
  readonly dataDirectories: ReadonlyMap<string, string>;
  /** How far the note lifted the revision. */
  readonly bump: bigint;
}

/**
 * Runs the shell blocks of a note in `directory`: the first one decodes, each later one restores the member that is named above it.
 * KEY and DATA_DIRECTORY are what a person fills in; `minor` is the etcdutl to use.
 */
export async function restoreByHand(
  note: string,
  at: {
    readonly store: string;
    readonly directory: string;
    readonly identity: string;
    readonly minor: Parameters<typeof etcdProgram>[0];
  },
): Promise<Restored> {
  const object = /^Fetch the object `([^`]+)`/m.exec(note)?.[1];
  if (object === undefined) throw new Error(`the note names no object:\n${note}`);
  await mkdir(at.directory, { recursive: true });
  await copyFile(join(at.store, object), join(at.directory, basename(object)));
  // Nothing but the tools that the note names, and what a shell always has.
  const tools = ["age", "zstd"] as const;
  const PATH = [
    ...tools.map((tool) => dirname(toolProgram(tool))),
    dirname(etcdProgram(at.minor, "etcdutl")),
    "/usr/bin",
    "/bin",
  ].join(":");
  const [decode, ...members] = shellBlocks(note);
  if (decode === undefined || members.length === 0) throw new Error(`the note has no commands:\n${note}`);
  const run = (script: string): Promise<string> =>
    runProgram("sh", ["-eu", "-c", script.replaceAll("age -d -i KEY ", `age -d -i '${at.identity}' `)], {
      cwd: at.directory,
      env: { PATH },
    });
  await run(decode.script);
  const dataDirectories = new Map<string, string>();
  let bump = 0n;
  for (const { above, script } of members) {
    const name = /^On (.+):$/.exec(above)?.[1];
    if (name === undefined) throw new Error(`no member is named above:\n${script}`);
    const dataDirectory = join(at.directory, `data-of-${name}`);
    dataDirectories.set(name, dataDirectory);
    await run(script.replace("DATA_DIRECTORY", `'${dataDirectory}'`));
    bump = BigInt(/--bump-revision (\d+)/.exec(script)?.[1] ?? "0");
  }
  return { dataDirectories, bump };
}

/** The `sh` blocks of a Markdown text, each with the last line of text above it. */
function shellBlocks(text: string): readonly { readonly above: string; readonly script: string }[] {
  return [...text.matchAll(/([^\n]*)\n\n```sh\n(.*?)\n```/gs)].map(([, above = "", script = ""]) => ({
    above,
    script,
  }));
}
