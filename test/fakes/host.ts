import { createHash } from "node:crypto";
import { Fault, throwIfAborted } from "../../src/faults.ts";
import { partOf } from "../../src/host/host.ts";
import type {
  ConnectionFacts,
  Host,
  ListenerFacts,
  Owner,
  PathFacts,
  ProcessFacts,
  RunOptions,
  RunResult,
} from "../../src/host/host.ts";
import { runProgram } from "../../src/host/run.ts";

type Node = { mode: number; owner: Owner; inode: bigint; modifiedMs: number } & (
  { kind: "file"; bytes: Uint8Array } | { kind: "directory" }
);

type Method = Exclude<keyof Host, "name">;

/** A machine in memory. Files are in a map; processes, ports and programs are what the test says. */
export interface FakeHost extends Host {
  /** Everything that runs on it; changed by tests and by `programs`. */
  readonly running: ProcessFacts[];
  readonly listening: ListenerFacts[];
  readonly connected: ConnectionFacts[];
  /** By path of the file, who has it open. */
  readonly holding: Map<string, readonly number[]>;
  /** By absolute path of the program: what it does. Others are run on this very machine. */
  readonly programs: Map<
    string,
    (argv: readonly string[], options: RunOptions) => Partial<RunResult> | Promise<Partial<RunResult>>
  >;
  /** Directories on file systems of their own, with a device number each. */
  readonly mounts: Map<string, string>;
  /** Files and directories that are symbolic links, with what they say; they are followed to themselves. */
  readonly links: Map<string, string>;
  /** Called before each method takes effect, with its number from 1; what it throws comes out, and nothing is done. */
  onCall: (method: Method, args: readonly unknown[], number: number) => void;
  freeBytes: number;
  bootId: string;
  /** All that is on it, as text, for comparing. */
  tree(): Readonly<Record<string, string>>;
  /** Another number after each change of its files. */
  changes(): number;
}

const ours: Owner = { uid: 0, gid: 0 };

export function fakeHost(name: string): FakeHost {
  let changes = 0;
  const nodes = new (class extends Map<string, Node> {
    override set(path: string, node: Node): this {
      changes += 1;
      return super.set(path, node);
    }
    override delete(path: string): boolean {
      changes += 1;
      return super.delete(path);
    }
  })();
  let inodes = 1n;
  let calls = 0;
  const make = (mode: number, owner: Owner = ours) => ({ mode, owner, inode: (inodes += 1n), modifiedMs: 0 });
  nodes.set("/", { kind: "directory", ...make(0o755) });

  const fault = (code: ConstructorParameters<typeof Fault>[0], message: string): Fault =>
    new Fault(code, `${name}: ${message}`);
  const check = (path: string): void => {
    if (!path.startsWith("/") || path.includes("\0") || path.split("/").includes("..")) {
      throw fault("host-failed", `${path} is no path`);
    }
  };
  const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";
  const below = (path: string): readonly string[] =>
    [...nodes.keys()].filter((other) => other.startsWith(path === "/" ? "/" : `${path}/`) && other !== path);
  const needParent = (path: string): void => {
    if (nodes.get(parentOf(path))?.kind !== "directory") throw fault("host-missing", `no directory ${parentOf(path)}`);
  };
  const deviceOf = (path: string): string => {
    const mount = [...host.mounts.keys()]
      .filter((point) => path === point || path.startsWith(`${point}/`))
      .sort((a, b) => b.length - a.length)[0];
    return mount === undefined ? "1" : (host.mounts.get(mount) ?? "1");
  };
  const move = (from: string, to: string): void => {
    for (const path of [from, ...below(from)]) {
      const node = nodes.get(path);
      if (node === undefined) continue;
      nodes.delete(path);
      nodes.set(`${to}${path.slice(from.length)}`, node);
    }
  };
  const remove = (path: string): void => {
    for (const inner of [path, ...below(path)]) nodes.delete(inner);
  };
  const call = async <T>(method: Method, args: readonly unknown[], signal: AbortSignal, act: () => T): Promise<T> => {
    await Promise.resolve();
    throwIfAborted(signal);
    calls += 1;
    host.onCall(method, args, calls);
    return act();
  };

  const host: FakeHost = {
    name,
    running: [],
    listening: [],
    connected: [],
    holding: new Map(),
    programs: new Map(),
    mounts: new Map(),
    links: new Map(),
    onCall: () => {},
    freeBytes: 2 ** 40,
    bootId: `boot of ${name}`,
    changes: () => changes,
    tree: () =>
      Object.fromEntries(
        [...nodes]
          .filter(([path]) => path !== "/")
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([path, node]) => [path, node.kind === "file" ? Buffer.from(node.bytes).toString() : "(directory)"]),
      ),
    facts: async (signal) =>
      await call("facts", [], signal, () => ({ bootId: host.bootId, hostname: name, uid: 0, kernel: "6.1" })),
    run: async (argv, options, signal) => {
      await call("run", [argv], signal, () => undefined);
      const program = host.programs.get(argv[0]);
      if (program === undefined) return await runProgram(name, argv, options, signal);
      const given = await program(argv, options);
      return { status: 0, signal: undefined, stdout: "", stderr: "", timedOut: false, truncated: false, ...given };
    },
    readFile: async (path, maxBytes, signal) =>
      await call("readFile", [path], signal, () => {
        check(path);
        const node = nodes.get(path);
        if (node === undefined) return undefined;
        if (node.kind !== "file") throw fault("host-failed", `${path} is no regular file`);
        if (node.bytes.length > maxBytes) throw fault("host-failed", `${path} has more than ${maxBytes} bytes`);
        return node.bytes.slice();
      }),
    writeFile: async (path, bytes, { mode, owner }, signal) =>
      await call("writeFile", [path], signal, () => {
        check(path);
        needParent(path);
        if (nodes.get(path)?.kind === "directory") throw fault("host-failed", `${path} is a directory`);
        nodes.set(path, { kind: "file", bytes: bytes.slice(), ...make(mode, owner) });
      }),
    removeFile: async (path, signal) =>
      await call("removeFile", [path], signal, () => {
        check(path);
        if (nodes.get(path)?.kind === "directory") throw fault("host-failed", `${path} is a directory`);
        nodes.delete(path);
      }),
    stat: async (path, signal) =>
      await call("stat", [path], signal, (): PathFacts | undefined => {
        check(path);
        const node = nodes.get(path);
        if (node === undefined) return undefined;
        return {
          kind: host.links.has(path) ? "link" : node.kind,
          sizeBytes: node.kind === "file" ? node.bytes.length : 4096,
          mode: node.mode,
          uid: node.owner.uid,
          gid: node.owner.gid,
          device: deviceOf(path),
          inode: node.inode,
          isMountPoint: path === "/" || host.mounts.has(path),
          target: host.links.get(path),
          selinux: undefined,
          modifiedMs: node.modifiedMs,
        };
      }),
    mountsBelow: async (path, signal) =>
      await call("mountsBelow", [path], signal, () => {
        check(path);
        const under = path === "/" ? "/" : `${path}/`;
        return [...host.mounts.keys()].filter((point) => point.startsWith(under) && point !== path).toSorted();
      }),
    list: async (path, signal) =>
      await call("list", [path], signal, () => {
        check(path);
        const node = nodes.get(path);
        if (node === undefined) return undefined;
        if (node.kind !== "directory") throw fault("host-missing", `${path} is no directory`);
        const from = path === "/" ? 1 : path.length + 1;
        return [...new Set(below(path).map((inner) => inner.slice(from).split("/")[0] ?? ""))].sort();
      }),
    treeSize: async (path, signal) =>
      await call("treeSize", [path], signal, () => {
        check(path);
        if (!nodes.has(path)) throw fault("host-missing", `there is no ${path}`);
        let bytes = 0;
        for (const inner of [path, ...below(path)]) {
          const node = nodes.get(inner);
          if (deviceOf(inner) === deviceOf(path)) bytes += node?.kind === "file" ? node.bytes.length : 4096;
        }
        return bytes;
      }),
    space: async (path, signal) =>
      await call("space", [path], signal, () => {
        check(path);
        return { freeBytes: host.freeBytes, freeInodes: 1_000_000, device: deviceOf(path) };
      }),
    rename: async (from, to, signal) =>
      await call("rename", [from, to], signal, () => {
        check(from);
        check(to);
        if (nodes.has(to)) throw fault("host-exists", `${to} is there already`);
        if (!nodes.has(from)) throw fault("host-missing", `there is no ${from}`);
        needParent(to);
        if (host.mounts.has(from) || deviceOf(from) !== deviceOf(to)) {
          throw fault("host-cross-device", `${from} and ${to} are on two file systems`);
        }
        move(from, to);
      }),
    makeDirectory: async (path, { mode, owner }, signal) =>
      await call("makeDirectory", [path], signal, () => {
        check(path);
        const missing: string[] = [];
        for (let at = path; !nodes.has(at); at = parentOf(at)) missing.push(at);
        for (const directory of missing.toReversed()) {
          needParent(directory);
          nodes.set(directory, {
            kind: "directory",
            ...(directory === path ? make(mode, owner) : make(0o700)),
          });
        }
        if (nodes.get(path)?.kind !== "directory") throw fault("host-exists", `${path} is no directory`);
      }),
    receive: async (directory, files, { mode, owner }, signal) => {
      await call("receive", [directory], signal, () => undefined);
      check(directory);
      const part = partOf(directory);
      const taken = (): void => {
        if (nodes.has(directory)) throw fault("host-exists", `${directory} is there already`);
      };
      taken();
      needParent(directory);
      remove(part);
      nodes.set(part, { kind: "directory", ...make(mode, owner) });
      for await (const file of files) {
        throwIfAborted(signal);
        if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/.test(file.path)) {
          throw fault("host-failed", `${file.path} is no name of a file to be sent`);
        }
        for (let at = file.path.indexOf("/"); at !== -1; at = file.path.indexOf("/", at + 1)) {
          const made = `${part}/${file.path.slice(0, at)}`;
          if (!nodes.has(made)) nodes.set(made, { kind: "directory", ...make(mode, owner) });
        }
        const chunks: Uint8Array[] = [];
        for await (const chunk of file.content(signal)) chunks.push(Buffer.from(chunk));
        const bytes = Buffer.concat(chunks);
        if (bytes.length > host.freeBytes) throw fault("host-space", "no room");
        if (nodes.has(`${part}/${file.path}`)) throw fault("host-exists", `${file.path} came twice`);
        const sha256 = createHash("sha256").update(bytes).digest("hex");
        if (bytes.length !== file.sizeBytes || sha256 !== file.sha256) {
          throw fault("host-damaged", `${file.path} is not what was sent`);
        }
        nodes.set(`${part}/${file.path}`, { kind: "file", bytes, ...make(file.mode, owner) });
      }
      throwIfAborted(signal);
      taken();
      move(part, directory);
    },
    readAt: async (path, offsetBytes, bytes, signal) =>
      await call("readAt", [path], signal, () => {
        check(path);
        const node = nodes.get(path);
        if (node?.kind !== "file") throw fault("host-missing", `there is no file ${path}`);
        return node.bytes.slice(offsetBytes, offsetBytes + bytes);
      }),
    async *send(path, signal) {
      check(path);
      await call("send", [path], signal, () => undefined);
      const node = nodes.get(path);
      if (node?.kind !== "file") throw fault("host-missing", `there is no file ${path}`);
      if (node.bytes.length > 0) yield node.bytes.slice();
    },
    removeTree: async (path, signal) =>
      await call("removeTree", [path], signal, () => {
        check(path);
        const mounted = [...host.mounts.keys()].some((point) => point === path || point.startsWith(`${path}/`));
        if (path === "/" || mounted) throw fault("host-cross-device", `${path} is a mount point, or holds one`);
        remove(path);
      }),
    processes: async (signal) => await call("processes", [], signal, () => [...host.running]),
    holders: async (path, signal) =>
      await call("holders", [path], signal, () => (nodes.has(path) ? (host.holding.get(path) ?? []) : [])),
    listeners: async (signal) => await call("listeners", [], signal, () => [...host.listening]),
    connections: async (port, signal) =>
      await call("connections", [port], signal, () => host.connected.filter(({ localPort }) => localPort === port)),
  };
  return host;
}
