import { readFile, readdir, readlink, stat } from "node:fs/promises";
import { throwIfAborted } from "../faults.ts";
import { isErrno } from "./errors.ts";
import type { ConnectionFacts, ListenerFacts, ProcessFacts } from "./host.ts";
import { connectionsOf, listenersOf, readProcess, readSockets, type Socket } from "./proc.ts";

const longestCommandLine = 64 * 1024;

/** The processes of this machine, as far as this process sees them. */
export async function localProcesses(signal: AbortSignal): Promise<readonly ProcessFacts[]> {
  const found: ProcessFacts[] = [];
  for (const pid of await pids()) {
    throwIfAborted(signal);
    const at = `/proc/${pid}`;
    const text = await textOf(`${at}/stat`);
    if (text === "") continue;
    const facts = readProcess(pid, {
      stat: text,
      cmdline: (await textOf(`${at}/cmdline`)).slice(0, longestCommandLine),
      cgroup: await textOf(`${at}/cgroup`),
      environ: await textOf(`${at}/environ`),
      directory: await linkOf(`${at}/cwd`),
    });
    if (facts !== undefined) found.push(facts);
  }
  return found;
}

/** Who has this very file open, by device and inode. */
export async function localHolders(path: string, signal: AbortSignal): Promise<readonly number[]> {
  const wanted = await identityOf(path);
  if (wanted === undefined) return [];
  const holders: number[] = [];
  for (const pid of await pids()) {
    throwIfAborted(signal);
    for (const descriptor of await namesIn(`/proc/${pid}/fd`)) {
      if ((await identityOf(`/proc/${pid}/fd/${descriptor}`)) !== wanted) continue;
      holders.push(pid);
      break;
    }
  }
  return holders;
}

export async function localListeners(signal: AbortSignal): Promise<readonly ListenerFacts[]> {
  const sockets = await localSockets();
  const wanted = sockets.filter(({ state }) => state === "listening");
  return listenersOf(sockets, await ownersOf(wanted, signal));
}

export async function localConnections(port: number, signal: AbortSignal): Promise<readonly ConnectionFacts[]> {
  const sockets = await localSockets();
  const wanted = sockets.filter(({ state, localPort }) => state === "established" && localPort === port);
  return connectionsOf(sockets, port, await ownersOf(wanted, signal));
}

async function localSockets(): Promise<readonly Socket[]> {
  return [...readSockets(await textOf("/proc/net/tcp")), ...readSockets(await textOf("/proc/net/tcp6"))];
}

/** The processes that hold these sockets; of another user's nothing can be seen. */
async function ownersOf(
  sockets: readonly Socket[],
  signal: AbortSignal,
): Promise<(inode: string) => number | undefined> {
  const wanted = new Set(sockets.map(({ inode }) => `socket:[${inode}]`));
  const owners = new Map<string, number>();
  for (const pid of wanted.size === 0 ? [] : await pids()) {
    throwIfAborted(signal);
    for (const descriptor of await namesIn(`/proc/${pid}/fd`)) {
      const target = await linkOf(`/proc/${pid}/fd/${descriptor}`);
      if (target !== undefined && wanted.has(target) && !owners.has(target)) owners.set(target, pid);
    }
  }
  return (inode) => owners.get(`socket:[${inode}]`);
}

async function pids(): Promise<readonly number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** What cannot be seen: it ended meanwhile, or belongs to somebody else. */
const unseen = ["ENOENT", "ESRCH", "EACCES", "EPERM", "EINVAL", "ENOTDIR"];

async function orNothing<T, U>(asked: Promise<T>, nothing: U): Promise<T | U> {
  try {
    return await asked;
  } catch (error) {
    if (isErrno(error, ...unseen)) return nothing;
    throw error;
  }
}

async function textOf(path: string): Promise<string> {
  return await orNothing(readFile(path, "utf8"), "");
}

async function linkOf(path: string): Promise<string | undefined> {
  return await orNothing(readlink(path), undefined);
}

async function namesIn(path: string): Promise<readonly string[]> {
  return await orNothing(readdir(path), []);
}

async function identityOf(path: string): Promise<string | undefined> {
  const facts = await orNothing(stat(path, { bigint: true }), undefined);
  return facts === undefined ? undefined : `${facts.dev}:${facts.ino}`;
}
