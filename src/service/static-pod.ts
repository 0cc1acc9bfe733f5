import { Fault, isFault } from "../faults.ts";
import type { Host, ProcessFacts } from "../host/host.ts";
import { withJoinFlags } from "./join-manifest.ts";
import { readManifest, type StaticPodFacts } from "./manifest.ts";
import type { Service, ServiceRole } from "./service.ts";

export interface StaticPodOptions {
  readonly name: string;
  readonly role: ServiceRole;
  /** The pod's name in its manifest. */
  readonly pod: string;
  /** The directory that the kubelet watches. */
  readonly manifests: string;
}

const manifestBytes = 2 ** 20;
const crictlMs = 20_000;

/**
 * A pod that the kubelet runs because its manifest is in a directory. Its manifest's absence is the only thing that stops it and keeps it stopped; so it is held by moving
 * the manifest out, beside that directory, where it stays over a reboot. Nothing is ever left under another name in the directory: whatever its ending, it would be a second pod.
 */
export function openStaticPod(host: Host, { name, role, pod, manifests }: StaticPodOptions): Service {
  const look = async (signal: AbortSignal): Promise<Found> => {
    const directory = await host.stat(manifests, signal);
    if (directory?.kind !== "directory") {
      throw new Fault("service-unknown", `${host.name} has no directory ${manifests} with manifests`, {
        hint: `write hosts.${host.name}.manifests`,
      });
    }
    const away = placeOf(manifests, directory.isMountPoint);
    const watched = (await podsIn(host, manifests, (file) => !file.startsWith("."), signal)).filter(
      ({ facts }) => facts.name === pod,
    );
    const held = (await podsIn(host, away.directory, (file) => file.startsWith(away.prefix), signal)).filter(
      ({ facts }) => facts.name === pod,
    );
    if (watched.length > 1) {
      const files = watched.map(({ file }) => file).join(" and ");
      throw new Fault("service-unknown", `${manifests} on ${host.name} has two manifests of the pod ${pod}: ${files}`, {
        hint: "the kubelet runs both, whatever their names end with; move one of them out of the directory",
      });
    }
    const [first] = watched;
    const [put] = held;
    if (first !== undefined && put !== undefined) {
      throw new Fault(
        "service-unknown",
        `the manifest of ${pod} on ${host.name} is in ${manifests} and in ${away.directory}: somebody put it back`,
        { hint: "look at both, and remove the one that is not to be used" },
      );
    }
    const manifest = first ?? put;
    if (manifest === undefined) {
      throw new Fault("service-unknown", `${manifests} on ${host.name} has no manifest of a pod ${pod}`, {
        hint: `is it the right name under hosts.${host.name}? is the manifest away already?`,
      });
    }
    // The name under which the kubelet shall find it.
    const file = first === undefined ? manifest.file.slice(away.prefix.length) : manifest.file;
    const at = `${away.directory}/${away.prefix}${file}`;
    const operation = first === undefined ? await operationAt(host, at, signal) : undefined;
    return { watched: first !== undefined, facts: manifest.facts, path: `${manifests}/${file}`, away: at, operation };
  };

  const heldBy = async (operation: string, signal: AbortSignal): Promise<Found> => {
    const found = await look(signal);
    if (found.operation === operation) return found;
    throw new Fault("service-failed", `${name} on ${host.name} is not held by operation ${operation}`);
  };
  const start = async (signal: AbortSignal): Promise<void> => {
    const { watched, operation } = await look(signal);
    // The kubelet starts it by itself.
    if (!watched) throw heldFault(name, host.name, operation ?? "unknown");
  };

  return {
    name,
    role,
    description: `static pod ${pod} of ${manifests}`,
    canHold: true,
    holdStops: true,
    joining:
      role !== "etcd"
        ? undefined
        : {
            async describe(signal) {
              const found = await look(signal);
              const text = await textAt(host, found.watched ? found.path : found.away, signal);
              withJoinFlags(text, "");
              return `--initial-cluster of all members and --initial-cluster-state=existing are written into ${found.path}, and stay there, as kubeadm's join leaves them`;
            },
            async prepare(operation, initialCluster, signal) {
              const { away } = await heldBy(operation, signal);
              const kept = await host.readFile(keptOf(away), manifestBytes, signal);
              const text = kept === undefined ? await textAt(host, away, signal) : new TextDecoder().decode(kept);
              await host.writeFile(keptOf(away), new TextEncoder().encode(text), { mode: 0o600 }, signal);
              await overwrite(host, away, withJoinFlags(text, initialCluster), signal);
            },
            start: async (_initialCluster, signal) => await start(signal),
            async finish(_operation, signal) {
              // Taking the flags back would only have the kubelet restart a healthy member.
              await host.removeFile(keptOf((await look(signal)).away), signal);
            },
            async undo(operation, signal) {
              const { away } = await heldBy(operation, signal);
              const kept = await host.readFile(keptOf(away), manifestBytes, signal);
              if (kept === undefined) return;
              await overwrite(host, away, new TextDecoder().decode(kept), signal);
              await host.removeFile(keptOf(away), signal);
            },
          },
    settings:
      role !== "etcd"
        ? undefined
        : async (signal) => {
            const { watched, facts, path, away } = await look(signal);
            const found = facts.containers.find(({ etcd }) => etcd !== undefined)?.etcd;
            return found && { ...found, from: watched ? path : away };
          },
    async state(signal) {
      const { watched, facts, operation } = await look(signal);
      const { pids, containers } = await runningOf(host, facts, signal);
      const running = pids.length > 0 || containers.length > 0;
      const detail = [
        running ? "runs" : "does not run",
        ...(pids.length === 0 ? [] : [`pid ${pids.join(", ")}`]),
        ...(containers.length === 0 ? [] : [`container ${containers.map((id) => id.slice(0, 13)).join(", ")}`]),
        ...(operation === undefined ? [] : [`held by operation ${operation}`]),
        // Who waits for it in vain learns whom to look at.
        ...(running === watched ? [] : [sayKubelet(running)]),
      ].join(", ");
      return {
        running,
        pids,
        heldBy: operation,
        boots: watched ? "yes" : "no",
        detail,
        holdBegun: undefined,
        needsReload: false,
        restarts: undefined,
      };
    },
    async hold(operation, signal) {
      const { watched, path, away, operation: before } = await look(signal);
      if (!watched) {
        if (before === operation) return;
        throw heldFault(name, host.name, before ?? "unknown");
      }
      await host.makeDirectory(parentOf(away), { mode: 0o700 }, signal);
      // Written first: a manifest that is away belongs to somebody.
      await host.writeFile(noteOf(away), new TextEncoder().encode(`${operation}\n`), { mode: 0o600 }, signal);
      await host.rename(path, away, signal);
    },
    async stop(signal) {
      const { watched, path } = await look(signal);
      if (!watched) return;
      throw new Fault("service-failed", `${name} on ${host.name} cannot be stopped while ${path} is there: hold it`);
    },
    async release(signal) {
      const { watched, path, away } = await look(signal);
      if (!watched) await host.rename(away, path, signal);
      await host.removeFile(noteOf(away), signal);
    },
    start,
  };
}

function sayKubelet(running: boolean): string {
  return running
    ? "its manifest is away, and the kubelet has not stopped it yet (does the kubelet run there?)"
    : "its manifest is there, and the kubelet does not keep it running (does the kubelet run there? why does the pod end?)";
}

/** The manifest as it was before a member's join was written into it. */
function keptOf(away: string): string {
  return `${parentOf(away)}/.${away.slice(away.lastIndexOf("/") + 1)}.before-join.operation`;
}

async function textAt(host: Host, path: string, signal: AbortSignal): Promise<string> {
  return new TextDecoder().decode((await host.readFile(path, manifestBytes, signal)) ?? new Uint8Array());
}

async function overwrite(host: Host, path: string, text: string, signal: AbortSignal): Promise<void> {
  const facts = await host.stat(path, signal);
  const { mode, uid, gid } = facts ?? { mode: 0o600, uid: 0, gid: 0 };
  const options = { mode: mode & 0o777, owner: { uid, gid } };
  await host.writeFile(path, new TextEncoder().encode(text), options, signal);
}

interface Found {
  /** The manifest is where the kubelet sees it. */
  readonly watched: boolean;
  readonly facts: StaticPodFacts;
  readonly path: string;
  readonly away: string;
  readonly operation: string | undefined;
}

/** Beside the watched directory, on the same file system; where that is a mount point, in it under a name with a dot, which the kubelet passes over. */
function placeOf(manifests: string, isMountPoint: boolean): { readonly directory: string; readonly prefix: string } {
  if (isMountPoint) return { directory: manifests, prefix: ".etcd-lifeboat-held-" };
  return { directory: `${parentOf(manifests)}/etcd-lifeboat-held-manifests`, prefix: "" };
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function noteOf(away: string): string {
  return `${parentOf(away)}/.${away.slice(away.lastIndexOf("/") + 1)}.operation`;
}

async function operationAt(host: Host, away: string, signal: AbortSignal): Promise<string> {
  const bytes = await host.readFile(noteOf(away), 200, signal);
  return bytes === undefined ? "unknown" : new TextDecoder().decode(bytes).trim();
}

async function podsIn(
  host: Host,
  directory: string,
  wanted: (file: string) => boolean,
  signal: AbortSignal,
): Promise<readonly { readonly file: string; readonly facts: StaticPodFacts }[]> {
  const found: { file: string; facts: StaticPodFacts }[] = [];
  for (const file of (await host.list(directory, signal)) ?? []) {
    if (!wanted(file) || (file.startsWith(".") && file.endsWith(".operation"))) continue;
    const path = `${directory}/${file}`;
    if ((await host.stat(path, signal))?.kind === "directory") continue;
    const bytes = await host.readFile(path, manifestBytes, signal);
    const facts = bytes === undefined ? undefined : readManifest(new TextDecoder().decode(bytes));
    if (facts !== undefined) found.push({ file, facts });
  }
  return found;
}

/** Its processes by their command lines, and its containers where crictl is there and answers. */
async function runningOf(
  host: Host,
  { name, containers }: StaticPodFacts,
  signal: AbortSignal,
): Promise<{ readonly pids: readonly number[]; readonly containers: readonly string[] }> {
  const running: string[] = [];
  const pids: number[] = [];
  let processes: readonly ProcessFacts[] | undefined;
  for (const container of containers) {
    const ids = await containersOf(host, container.name, signal);
    if (ids !== undefined) running.push(...ids);
    const { argv } = container;
    // A shell becomes another program, which only the container runtime can tell.
    const recognisable = argv?.[0] !== undefined && !/(^|\/)(sh|bash|dash|ash|env|tini)$/.test(argv[0]);
    if (!recognisable && ids === undefined) {
      throw new Fault(
        "service-unknown",
        `whether the container ${container.name} of ${name} runs on ${host.name} cannot be said`,
        {
          hint: "its manifest names no program of its own: install crictl there, or write the service as a command",
        },
      );
    }
    if (argv === undefined || !recognisable) continue;
    processes ??= await host.processes(signal);
    pids.push(...processes.filter((process) => !process.zombie && isOf(process.argv, argv)).map(({ pid }) => pid));
  }
  return { pids, containers: running };
}

/** The same words; `$(NAME)` in a manifest stands for anything. */
function isOf(argv: readonly string[], manifest: readonly string[]): boolean {
  if (argv.length !== manifest.length) return false;
  return manifest.every((word, index) => {
    const given = argv[index] ?? "";
    if (!word.includes("$(")) return given === word;
    const parts = word.split(/\$\([A-Za-z0-9_.-]+\)/).map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`, "s").test(given);
  });
}

/** Undefined where there is no crictl, or it has no answer. */
async function containersOf(
  host: Host,
  container: string,
  signal: AbortSignal,
): Promise<readonly string[] | undefined> {
  try {
    const label = `io.kubernetes.container.name=${container}`;
    const { status, stdout } = await host.run(
      ["crictl", "ps", "--quiet", "--label", label],
      { timeoutMs: crictlMs },
      signal,
    );
    return status === 0 ? stdout.split("\n").filter((line) => /^[0-9a-f]{6,64}$/.test(line)) : undefined;
  } catch (error) {
    if (isFault(error, "host-program-missing")) return undefined;
    throw error;
  }
}

function heldFault(name: string, host: string, operation: string): Fault {
  return new Fault("service-held", `${name} on ${host} is held by operation ${operation}`, {
    hint: "finish that one first, or take it back",
  });
}
