import { readFile } from "node:fs/promises";
import { hostname, release } from "node:os";
import { Fault, throwIfAborted } from "../faults.ts";
import { checkPath, translated } from "./errors.ts";
import {
  bytesBelow,
  factsOf,
  lstatOrNothing,
  makeDirectoryDurably,
  mountsBelow,
  namesIn,
  readPart,
  readSmall,
  removeDurably,
  removeTreeDurably,
  renameDurably,
  spaceAt,
  writeDurably,
} from "./files.ts";
import type { Host } from "./host.ts";
import { localConnections, localHolders, localListeners, localProcesses } from "./processes.ts";
import { readChunks, receiveTree } from "./receive.ts";
import { runProgram } from "./run.ts";

const labelMs = 60_000;

/** The machine that this process runs on. */
export function openLocalHost(name: string): Host {
  const at = async <T>(what: string, path: string, signal: AbortSignal, act: () => Promise<T>): Promise<T> => {
    checkPath(name, path);
    throwIfAborted(signal);
    return await translated(name, `${what} ${path}`, act);
  };
  const seen = async <T>(what: string, signal: AbortSignal, act: () => Promise<T>): Promise<T> => {
    throwIfAborted(signal);
    return await translated(name, what, act);
  };
  const say = async (argv: readonly [string, ...string[]], signal: AbortSignal): Promise<string> => {
    const { status, stdout, stderr } = await runProgram(name, argv, { timeoutMs: labelMs }, signal);
    if (status !== 0) throw new Fault("host-failed", `${argv[0]} failed on ${name}: ${stderr.trim()}`);
    return stdout;
  };
  const contextOf = async (path: string, signal: AbortSignal): Promise<string | undefined> => {
    if ((await lstatOrNothing("/sys/fs/selinux/enforce")) === undefined) return undefined;
    const context = await say(["stat", "--printf=%C", "--", path], signal);
    return context === "?" || context === "" ? undefined : context;
  };
  return {
    name,
    async facts(signal) {
      return await seen("say what it is", signal, async () => ({
        bootId: (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim(),
        hostname: hostname(),
        uid: process.getuid?.() ?? -1,
        kernel: release(),
      }));
    },
    run: async (argv, options, signal) => await runProgram(name, argv, options, signal),
    readFile: async (path, maxBytes, signal) => await at("read", path, signal, () => readSmall(path, maxBytes)),
    writeFile: async (path, bytes, options, signal) =>
      await at("write", path, signal, () => writeDurably(path, bytes, options)),
    removeFile: async (path, signal) => await at("remove", path, signal, () => removeDurably(path)),
    stat: async (path, signal) =>
      await at("look at", path, signal, async () => {
        const facts = await factsOf(path);
        return facts === undefined ? undefined : { ...facts, selinux: await contextOf(path, signal) };
      }),
    mountsBelow: async (path, signal) => await at("see the mounts below", path, signal, () => mountsBelow(path)),
    list: async (path, signal) => await at("list", path, signal, () => namesIn(path)),
    treeSize: async (path, signal) => await at("measure", path, signal, () => bytesBelow(path, signal)),
    space: async (path, signal) => await at("see the space of", path, signal, () => spaceAt(path)),
    async rename(from, to, signal) {
      checkPath(name, to);
      await at("rename", from, signal, () => renameDurably(from, to));
    },
    makeDirectory: async (path, options, signal) =>
      await at("make", path, signal, () => makeDirectoryDurably(path, options)),
    receive: async (directory, files, options, signal) =>
      await at("receive", directory, signal, async () => {
        const label = async (path: string, context: string): Promise<void> => {
          await say(["chcon", "--recursive", "--no-dereference", "--", context, path], signal);
        };
        await receiveTree(directory, files, options, label, signal);
      }),
    readAt: async (path, offsetBytes, bytes, signal) =>
      await at("read", path, signal, () => readPart(path, offsetBytes, bytes)),
    async *send(path, signal) {
      checkPath(name, path);
      const chunks = readChunks(path, signal);
      try {
        for (;;) {
          const next = await translated(name, `read ${path}`, () => chunks.next());
          if (next.done === true) return;
          yield next.value;
        }
      } finally {
        await chunks.return(undefined);
      }
    },
    removeTree: async (path, signal) => await at("remove", path, signal, () => removeTreeDurably(path)),
    processes: async (signal) => await seen("list processes", signal, () => localProcesses(signal)),
    holders: async (path, signal) => await at("see who holds", path, signal, () => localHolders(path, signal)),
    listeners: async (signal) => await seen("list ports", signal, () => localListeners(signal)),
    connections: async (port, signal) => await seen("list connections", signal, () => localConnections(port, signal)),
  };
}
