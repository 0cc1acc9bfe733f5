import type { ConnectionFacts, ListenerFacts, ProcessFacts } from "./host.ts";

/** Reads what Linux writes in /proc; text in, facts out, so that it is the same for every way to reach a host. */

/** `/proc/PID/stat` and the files beside it; undefined for a kernel thread or what is no such text. */
export function readProcess(
  pid: number,
  files: {
    readonly stat: string;
    readonly cmdline: string;
    readonly cgroup: string;
    readonly environ: string;
    readonly directory: string | undefined;
  },
): ProcessFacts | undefined {
  // comm stands in parentheses and may hold some itself.
  const open = files.stat.indexOf("(");
  const close = files.stat.lastIndexOf(")");
  if (open === -1 || close < open) return undefined;
  const fields = files.stat.slice(close + 2).split(" ");
  const [state = "", parent = "", , , , , flags = "0"] = fields;
  const kernelThread = 0x0020_0000;
  if ((Number(flags) & kernelThread) !== 0) return undefined;
  return {
    pid,
    startTicks: BigInt(fields[19] ?? "0"),
    parent: Number(parent),
    comm: files.stat.slice(open + 1, close),
    argv: files.cmdline === "" ? [] : files.cmdline.replace(/\0$/, "").split("\0"),
    etcdEnvironment: etcdEnvironmentOf(files.environ),
    directory: files.directory,
    controlGroup: controlGroupOf(files.cgroup),
    zombie: state === "Z" || state === "X",
  };
}

function etcdEnvironmentOf(environ: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of environ.split("\0")) {
    const [, name, value] = /^(ETCD_NAME|ETCD_DATA_DIR|ETCD_WAL_DIR|ETCD_CONFIG_FILE)=(.*)$/s.exec(entry) ?? [];
    if (name !== undefined && value !== undefined) found[name] = value;
  }
  return found;
}

/** The one of systemd: version 2's, else that of its own hierarchy. */
function controlGroupOf(cgroup: string): string | undefined {
  const lines = cgroup.split("\n").map((line) => /^(\d+):([^:]*):(.*)$/.exec(line));
  const named = lines.find((match) => match?.[2] === "name=systemd")?.[3];
  return named ?? lines.find((match) => match?.[1] === "0" && match[2] === "")?.[3];
}

/** A line of /proc/net/tcp or tcp6. */
export interface Socket {
  readonly state: "listening" | "established" | "other";
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly inode: string;
}

export function readSockets(text: string): readonly Socket[] {
  const sockets: Socket[] = [];
  for (const line of text.split("\n").slice(1)) {
    const [, local = "", remote = "", state, , , , , , inode = "0"] = line.trim().split(/\s+/);
    const [localAddress, localPort] = readAddress(local);
    const [remoteAddress, remotePort] = readAddress(remote);
    if (localAddress === undefined || remoteAddress === undefined) continue;
    sockets.push({
      state: state === "0A" ? "listening" : state === "01" ? "established" : "other",
      localAddress,
      localPort,
      remoteAddress,
      remotePort,
      inode,
    });
  }
  return sockets;
}

/** `0100007F:094B`: words of 32 bits, each in the machine's order, which is little-endian wherever etcd runs. */
function readAddress(text: string): readonly [address: string | undefined, port: number] {
  const match = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/i.exec(text);
  if (match?.[1] === undefined) return [undefined, 0];
  const bytes = (match[1].match(/.{8}/g) ?? []).flatMap((word) =>
    (word.match(/../g) ?? []).toReversed().map((byte) => Number.parseInt(byte, 16)),
  );
  return [bytes.length === 4 ? bytes.join(".") : versionSix(bytes), Number.parseInt(match[2] ?? "0", 16)];
}

function versionSix(bytes: readonly number[]): string {
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  if (mapped) return bytes.slice(12).join(".");
  const words = Array.from({ length: 8 }, (_, index) =>
    (((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0)).toString(16),
  );
  return new URL(`http://[${words.join(":")}]`).hostname.slice(1, -1);
}

export function listenersOf(
  sockets: readonly Socket[],
  pidOf: (inode: string) => number | undefined,
): readonly ListenerFacts[] {
  return sockets
    .filter(({ state }) => state === "listening")
    .map(({ localPort, localAddress, inode }) => ({ port: localPort, address: localAddress, pid: pidOf(inode) }));
}

export function connectionsOf(
  sockets: readonly Socket[],
  port: number,
  pidOf: (inode: string) => number | undefined,
): readonly ConnectionFacts[] {
  return sockets
    .filter(({ state, localPort }) => state === "established" && localPort === port)
    .map(({ localPort, remoteAddress, remotePort, inode }) => ({
      localPort,
      remoteAddress,
      remotePort,
      pid: pidOf(inode),
    }));
}

/** Mount points of /proc/self/mountinfo, where blanks and backslashes are octal. */
export function readMountPoints(mountinfo: string): ReadonlySet<string> {
  const points = mountinfo
    .split("\n")
    .map((line) => line.split(" ")[4])
    .filter((point) => point !== undefined);
  return new Set(
    points.map((point) =>
      point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCodePoint(Number.parseInt(octal, 8))),
    ),
  );
}
