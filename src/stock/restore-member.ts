import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault, abortFault } from "../faults.ts";
import { endFault } from "./ended.ts";
import { startGuarded } from "./guarded.ts";
import type { MemberRestore } from "./stock.ts";

const dataDirectory = "data";

/** Runs etcd's own restore for one member, and gives the path of the data directory that it made in `directory`. */
export async function restoreMember(
  program: { readonly name: string; readonly path: string },
  restore: MemberRestore,
  directory: string,
  signal: AbortSignal,
): Promise<string> {
  const { name, members, token, bump, sealed, snapshotPath } = restore;
  if (bump !== undefined && !(await canBump(program.path, directory, signal))) {
    throw new Fault("etcd-unsupported", `${program.name} cannot bump revisions, so clients would see them go back`, {
      hint: "use a later patch of it, or etcdutl 3.5 for snapshots up to 3.4",
    });
  }
  const own = members.find((member) => member.name === name);
  if (own === undefined) throw new Fault("usage", `${name} is not among the members of the new cluster`);
  const args = [
    "snapshot",
    "restore",
    snapshotPath,
    `--name=${name}`,
    `--data-dir=${dataDirectory}`,
    `--initial-cluster=${members.flatMap((member) => member.peerUrls.map((url) => `${member.name}=${url}`)).join()}`,
    `--initial-cluster-token=${token}`,
    `--initial-advertise-peer-urls=${own.peerUrls.join()}`,
    ...(sealed ? [] : ["--skip-hash-check"]),
    ...(bump === undefined ? [] : [`--bump-revision=${bump}`, "--mark-compacted"]),
  ];
  const process = await startGuarded(program.path, args, directory, signal);
  const end = await process.ended;
  if (signal.aborted) throw abortFault(signal);
  const data = join(directory, dataDirectory);
  // Where the command was removed, etcdctl prints its help and ends with status 0.
  const made = await stat(join(data, "member/snap/db")).then(
    (stats) => stats.isFile(),
    () => false,
  );
  if (end.status !== 0 || !made) throw endFault(program.name, "did not restore the snapshot", end);
  return data;
}

async function canBump(path: string, directory: string, signal: AbortSignal): Promise<boolean> {
  const process = await startGuarded(path, ["snapshot", "restore", "--help"], directory, signal);
  const { output } = await process.ended;
  if (signal.aborted) throw abortFault(signal);
  return output.includes("--bump-revision") && output.includes("--mark-compacted");
}
