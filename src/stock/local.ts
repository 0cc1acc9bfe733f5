import { access, constants, open, stat, type FileHandle } from "node:fs/promises";
import { request } from "node:http";
import { delimiter, join } from "node:path";
import { Fault, abortFault, throwIfAborted } from "../faults.ts";
import { startGuarded, type Guarded } from "./guarded.ts";
import { endFault } from "./ended.ts";
import { restoreMember } from "./restore-member.ts";
import type {
  StockLook,
  StockMember,
  StockPrograms,
  StockRestorer,
  StockRestorers,
  StockServer,
  StockServers,
  StockTools,
} from "./stock.ts";

export interface LocalToolsOptions {
  /** Looked into before PATH: for each program `directory/3.6/etcd`, then `directory/etcd`. */
  readonly directory: string | undefined;
  /** The PATH to look along. */
  readonly path: string;
}

/** The etcd programs that are installed here. */
export function openLocalTools(options: LocalToolsOptions): StockTools & StockRestorers & StockServers {
  return {
    find: (minor, signal) => findPrograms(options, minor, signal),
    findRestorer: (minor, signal) => findRestorer(options, minor, signal),
    findServer: (minor, signal) => findServer(options, minor, signal),
  };
}

type ProgramName = "etcd" | "etcdutl" | "etcdctl";

interface Program {
  readonly name: ProgramName;
  readonly minor: string;
}

interface FoundProgram extends Program {
  readonly path: string;
  readonly version: string;
}

/** What may restore snapshots of a minor, the best first: etcdutl came with 3.5 and reads older snapshots, too. */
function restorersOf(minor: string): readonly Program[] {
  const [, small = 0] = minor.split(".").map(Number);
  if (small >= 5) return [{ name: "etcdutl", minor }];
  return [
    { name: "etcdutl", minor: "3.5" },
    { name: "etcdctl", minor },
  ];
}

async function findPrograms(options: LocalToolsOptions, minor: string, signal: AbortSignal): Promise<StockPrograms> {
  checkMinor(minor);
  const server = await findFirst(options, [{ name: "etcd", minor }], minor, signal);
  const restorer = await findFirst(options, restorersOf(minor), minor, signal);
  return {
    names: [restorer, server].map(({ name, version }) => `${name} ${version}`),
    restore: (snapshotPath, directory, within) => restore(restorer, snapshotPath, directory, within),
    start: (directory, within) => startMember(server, directory, within),
  };
}

async function findRestorer(options: LocalToolsOptions, minor: string, signal: AbortSignal): Promise<StockRestorer> {
  checkMinor(minor);
  const { name, version, path } = await findFirst(options, restorersOf(minor), minor, signal);
  const program = { name: `${name} ${version}`, path };
  return {
    name: program.name,
    keepsOldMembers: name === "etcdctl",
    restoreMember: (restore, directory, within) => restoreMember(program, restore, directory, within),
  };
}

async function findServer(options: LocalToolsOptions, minor: string, signal: AbortSignal): Promise<StockServer> {
  checkMinor(minor);
  const server = await findFirst(options, [{ name: "etcd", minor }], minor, signal);
  return {
    name: `etcd ${server.version}`,
    startAlone: (directory, within) => startMember(server, directory, within, ["--force-new-cluster"]),
  };
}

function checkMinor(minor: string): void {
  if (!/^3\.\d{1,3}$/.test(minor)) throw new Fault("tool-missing", `there is no etcd ${minor}`);
}

function missing(
  { directory }: LocalToolsOptions,
  wanted: readonly Program[],
  minor: string,
  others: readonly string[],
): Fault {
  const names = wanted.map(({ name, minor: own }) => `${name} ${own}`).join(" or ");
  const where = directory === undefined ? "on PATH" : `in ${directory} or on PATH`;
  const instead = others.length === 0 ? "" : `; there is ${[...new Set(others)].join(", ")}`;
  const [restorer] = restorersOf(minor).map(({ name, minor: own }) => `${name} ${own}`);
  return new Fault("tool-missing", `no ${names} ${where}${instead}`, {
    hint: `install etcd ${minor} and ${restorer}, or name a directory that has them: --tools DIR, with DIR/${minor}/etcd`,
  });
}

async function findFirst(
  options: LocalToolsOptions,
  wanted: readonly Program[],
  forMinor: string,
  signal: AbortSignal,
): Promise<FoundProgram> {
  const { directory, path } = options;
  const others: string[] = [];
  for (const { name, minor } of wanted) {
    const folders = [
      ...(directory === undefined ? [] : [join(directory, minor), directory]),
      ...path.split(delimiter).filter((folder) => folder.startsWith("/")),
    ];
    for (const folder of folders) {
      const file = join(folder, name);
      if (!(await isProgram(file))) continue;
      const version = await versionOf(name, file, signal);
      if (version?.startsWith(`${minor}.`) === true) return { name, minor, path: file, version };
      others.push(`${file} ${version ?? "of an unknown version"}`);
    }
  }
  throw missing(options, wanted, forMinor, others);
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    // Not there, or not ours to run: the next folder is looked into.
    return false;
  }
}

const versionMs = 20_000;

async function versionOf(name: ProgramName, path: string, signal: AbortSignal): Promise<string | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(versionMs)]);
  const process = await startGuarded(path, [name === "etcd" ? "--version" : "version"], "/", limit);
  const { output } = await process.ended;
  throwIfAborted(signal);
  return /^(?:etcd|etcdutl|etcdctl) version: (3\.\d{1,3}\.\d{1,4}[\w.+-]{0,40})$/im.exec(output)?.[1];
}

/** Relative to the directory that the member runs in: etcd up to 3.4 takes a name and a port for a socket and no path. */
const clientSocket = "localhost:1";
const peerSocket = "localhost:2";
const dataDirectory = "data";
const member = "throw-away";

function memberFlags(): readonly string[] {
  return [
    `--name=${member}`,
    `--data-dir=${dataDirectory}`,
    `--initial-cluster=${member}=unix://${peerSocket}`,
    `--initial-advertise-peer-urls=unix://${peerSocket}`,
    // No other cluster has this token, so no other cluster's member is ever mistaken for one of this.
    "--initial-cluster-token=throw-away",
  ];
}

async function restore(
  { name, version, path }: FoundProgram,
  snapshotPath: string,
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const args = ["snapshot", "restore", snapshotPath, ...memberFlags()];
  const process = await startGuarded(path, args, directory, signal);
  const end = await process.ended;
  if (signal.aborted) throw abortFault(signal);
  const made = await isFile(join(directory, dataDirectory, "member/snap/db"));
  if (end.status !== 0 || !made) throw endFault(`${name} ${version}`, "did not restore the snapshot", end);
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

async function startMember(
  { path, version }: FoundProgram,
  directory: string,
  signal: AbortSignal,
  further: readonly string[] = [],
): Promise<StockMember> {
  const flags = [
    ...memberFlags(),
    ...further,
    `--listen-client-urls=unix://${clientSocket}`,
    `--advertise-client-urls=unix://${clientSocket}`,
    `--listen-peer-urls=unix://${peerSocket}`,
    // Whatever the database's size, it raises no alarm.
    `--quota-backend-bytes=${2 ** 43}`,
  ];
  // A Unix socket's path has room for 107 bytes, which a directory's own can exceed.
  const opened: FileHandle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  const socket = `/proc/self/fd/${opened.fd}/${clientSocket}`;
  let process: Guarded;
  try {
    process = await startGuarded(path, flags, directory, signal);
  } catch (error) {
    await opened.close();
    throw error;
  }
  let ended: Awaited<Guarded["ended"]> | undefined;
  const end = process.ended.then((how) => (ended = how));
  return {
    socket,
    async look(within) {
      if (ended !== undefined) throw endFault(`etcd ${version}`, "does not run on this data", ended);
      return askMetrics(socket, within);
    },
    async stop(within) {
      process.kill("SIGTERM");
      const abort = (): void => process.kill("SIGKILL");
      within.addEventListener("abort", abort, { once: true });
      await end;
      within.removeEventListener("abort", abort);
      throwIfAborted(within);
      return join(directory, dataDirectory, "member/snap/db");
    },
    async [Symbol.asyncDispose]() {
      process.kill("SIGKILL");
      await end;
      await opened.close();
    },
  };
}

const lookMs = 5_000;
const pageBytes = 8 * 2 ** 20;

/** The metrics page needs no user and says whether there is a leader, without which nothing is served. */
async function askMetrics(socketPath: string, signal: AbortSignal): Promise<StockLook | undefined> {
  const page = await get(socketPath, "/metrics", AbortSignal.any([signal, AbortSignal.timeout(lookMs)]));
  throwIfAborted(signal);
  const number = (name: string): string | undefined => new RegExp(`^${name} ([0-9.e+]+)$`, "m").exec(page ?? "")?.[1];
  const keys = number("etcd_debugging_mvcc_keys_total");
  const revision = number("etcd_debugging_mvcc_current_revision");
  const applied = number("etcd_server_proposals_applied_total");
  if (number("etcd_server_has_leader") !== "1") return undefined;
  if (keys === undefined || revision === undefined || applied === undefined) return undefined;
  // Floats in the text format: exact up to 2^53, and Go writes them like 1e+09.
  return { keys: Number(keys), revision: BigInt(Number(revision)), appliedIndex: BigInt(Number(applied)) };
}

/** The page, or undefined when there is none now. */
function get(socketPath: string, path: string, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path, signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > pageBytes) asked.destroy();
        else chunks.push(chunk);
      });
      response.once("end", () => resolve(response.statusCode === 200 ? Buffer.concat(chunks).toString() : undefined));
      response.once("close", () => resolve(undefined));
    });
    asked.once("error", () => resolve(undefined));
    asked.end();
  });
}
