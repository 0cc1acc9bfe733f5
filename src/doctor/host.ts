import { execFile } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { promisify } from "node:util";
import { isFault } from "../faults.ts";
import { report, type Finding } from "./finding.ts";

export interface HostExamination {
  readonly spoolDirectory: string;
  readonly space: () => Promise<{ readonly freeBytes: number; readonly sizeBytes: number }>;
  /** Undefined: the store is no directory. */
  readonly storeDirectory: string | undefined;
  /** Of the largest database; undefined where none was seen. */
  readonly largestBytes: number | undefined;
  /** Where programs are looked for, as in PATH. */
  readonly path: string;
  /** Where processes are seen: /proc. */
  readonly processes: string;
}

/** Examines this host; writes nothing. */
export async function examineHost(deps: HostExamination, signal: AbortSignal): Promise<readonly Finding[]> {
  const data = await findDataDirectories(deps.processes);
  return [await examineRoom(deps), ...(await examineSharing(deps, data)), await examineTime(deps.path, signal)];
}

async function examineRoom({ spoolDirectory, space, largestBytes }: HostExamination): Promise<Finding> {
  const { ok, unknown, fault, problem } = report("host", "room");
  const help = "free space there, or set spool.directory";
  try {
    const { freeBytes, sizeBytes } = await space();
    const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
    const free = `${spoolDirectory} has ${mib(freeBytes)} free of ${mib(sizeBytes)}`;
    if (largestBytes === undefined) return unknown(`${free}; how much a snapshot needs is not known`);
    // As the spool itself keeps room for others.
    const reserved = Math.min(1024 ** 3, Math.floor(sizeBytes / 20));
    const needs = `a snapshot needs ${mib(largestBytes)}, and ${mib(reserved)} are kept for others`;
    if (freeBytes - reserved < largestBytes) return problem("spool-space", `${free}; ${needs}`, help);
    return ok(`${free}; ${needs}`);
  } catch (error) {
    if (!isFault(error)) throw error;
    return fault(error, help);
  }
}

interface DataDirectories {
  /** Of members that run here. */
  readonly found: readonly string[];
  /** Members that run here and hide where their data is. */
  readonly hidden: number;
}

async function examineSharing(
  { spoolDirectory, storeDirectory }: HostExamination,
  data: DataDirectories,
): Promise<readonly Finding[]> {
  const { ok, unknown, warning } = report("host", "disks");
  if (data.found.length === 0) {
    if (data.hidden === 0) return [ok("no member of etcd is seen to run here, so no disk is shared with one")];
    return [unknown("a member of etcd runs here, and where its data is cannot be seen", "run the doctor as root")];
  }
  const found: Finding[] = [];
  for (const directory of data.found) {
    const disk = await diskOf(directory);
    if (disk === undefined) {
      found.push(unknown(`which disk ${directory} is on cannot be seen`, "run the doctor as root"));
      continue;
    }
    const spool = (await diskOf(spoolDirectory)) === disk;
    const store = storeDirectory !== undefined && (await diskOf(storeDirectory)) === disk;
    if (spool) {
      const says = `the spool ${spoolDirectory} is on the disk of etcd's data ${directory}: draining takes of what etcd's writes need`;
      found.push(warning(says, "set spool.directory to another disk, or spool.maxRate"));
    }
    if (store) {
      const says = `the store ${storeDirectory} is on the disk of etcd's data ${directory}: what kills one kills both`;
      found.push(warning(says, "store backups on another disk, best on another host"));
    }
    if (!spool && !store) found.push(ok(`etcd's data ${directory} has a disk of its own`));
  }
  return found;
}

/** The device that a directory is on; undefined where it cannot be looked at. */
async function diskOf(directory: string): Promise<number | undefined> {
  try {
    return (await stat(directory)).dev;
  } catch {
    return undefined;
  }
}

/** Where the members that run on this host say that their data is: in their arguments, which everybody may read. */
async function findDataDirectories(processes: string): Promise<DataDirectories> {
  const found = new Set<string>();
  let hidden = 0;
  for (const entry of await readdir(processes).catch(() => [])) {
    if (!/^\d+$/.test(entry)) continue;
    // It may have ended since.
    const name = await readFile(join(processes, entry, "comm"), "utf8").catch(() => "");
    if (name.trim() !== "etcd") continue;
    const words = (await readFile(join(processes, entry, "cmdline"), "utf8").catch(() => "")).split("\0");
    const at = words.findIndex((word) => /^--?data-dir(=|$)/.test(word));
    const directory = at === -1 ? undefined : (words[at]?.split("=", 2)[1] ?? words[at + 1]);
    if (directory !== undefined && isAbsolute(directory)) found.add(directory);
    else hidden += 1;
  }
  return { found: [...found].toSorted(), hidden };
}

async function examineTime(path: string, signal: AbortSignal): Promise<Finding> {
  const { ok, unknown, warning } = report("host", "time");
  const sync = "turn it on: timedatectl set-ntp true, or install chrony";
  try {
    const args = ["show", "--property=NTPSynchronized", "--value"];
    const { stdout } = await promisify(execFile)("timedatectl", args, { env: { PATH: path }, timeout: 5000, signal });
    if (stdout.trim() === "yes") return ok("the clock is synchronised");
    if (stdout.trim() === "no") {
      return warning(
        "the clock is not synchronised: backups are misdated, and nothing expires once it is far off",
        sync,
      );
    }
    return unknown("whether the clock is synchronised cannot be read from timedatectl");
  } catch {
    return unknown("whether the clock is synchronised cannot be asked here: there is no timedatectl that answers");
  }
}
