import { spawn, type ChildProcess } from "node:child_process";
import { openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

/**
 * Watches a directory as a kubelet does: every file whose name does not begin with a dot is a pod, whatever it ends with. Its containers run as long as the file is there and says the
 * same, are started again when they end, and are asked to end, then killed after terminationGracePeriodSeconds, when it is not. A container is a process with the host's files; a
 * hostPath volume is mounted where it says, for that process alone. `kubelet.ts DIRECTORY [LOGS [NOTICES_MS]]`: LOGS is a directory for what containers print, and a change is noticed only
 * NOTICES_MS later. It says "watching" when it does. What it runs ends with it.
 */
const [, , directory = "", logs, notices = "0"] = process.argv;

interface Container {
  readonly name: string;
  readonly command: readonly string[];
  readonly args?: readonly string[];
  readonly workingDir?: string;
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Pod {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly containers: readonly Container[];
    readonly volumes?: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
    readonly terminationGracePeriodSeconds?: number;
  };
}

interface Running {
  readonly child: ChildProcess;
  readonly text: string;
  readonly graceMs: number;
  ending: boolean;
}

const running = new Map<string, Running>();
/** Since when a pod has been otherwise than what runs. */
const changed = new Map<string, number>();

function look(): void {
  const wanted = new Map<string, { readonly text: string; readonly pod: Pod; readonly container: Container }>();
  for (const name of readdirSync(directory)) {
    const text = name.startsWith(".") ? undefined : textOf(join(directory, name));
    const pod = text === undefined ? undefined : podOf(text);
    for (const [index, container] of (pod?.spec.containers ?? []).entries())
      if (pod !== undefined && text !== undefined) wanted.set(`${name} ${index}`, { text, pod, container });
  }
  for (const [key, one] of running)
    if (wanted.get(key)?.text === one.text) changed.delete(key);
    else if (noticed(key)) end(one);
  for (const [key, { text, pod, container }] of wanted) {
    if (running.has(key) || !noticed(key)) continue;
    changed.delete(key);
    const child = start(pod, container);
    running.set(key, { child, text, graceMs: (pod.spec.terminationGracePeriodSeconds ?? 30) * 1000, ending: false });
    for (const event of ["close", "error"]) child.once(event, () => running.delete(key));
  }
}

/** It was moved away between two looks, or is half written. */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

const known = new Map<string, Pod | undefined>();

function podOf(text: string): Pod | undefined {
  if (!known.has(text)) known.set(text, read(text));
  return known.get(text);
}

function read(text: string): Pod | undefined {
  try {
    const pod = parse(text) as Pod | null;
    return pod !== null && Array.isArray(pod.spec.containers) ? pod : undefined;
  } catch {
    return undefined;
  }
}

function noticed(key: string): boolean {
  const sinceMs = changed.get(key) ?? Date.now();
  changed.set(key, sinceMs);
  return Date.now() - sinceMs >= Number(notices);
}

function end(one: Running): void {
  if (one.ending) return;
  one.ending = true;
  one.child.kill("SIGTERM");
  const kill = setTimeout(() => one.child.kill("SIGKILL"), one.graceMs);
  one.child.once("close", () => clearTimeout(kill));
}

/** The mounts are the process's own: with the last of them it becomes the container's program, and its arguments are what the manifest says. */
const mount = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"';

function start({ metadata, spec }: Pod, { name, command, args = [], workingDir, volumeMounts = [] }: Container) {
  const paths = new Map(spec.volumes?.map((volume) => [volume.name, volume.hostPath?.path]));
  const mounts = volumeMounts.flatMap(({ name: volume, mountPath }) => {
    const path = paths.get(volume);
    return path === undefined || path === mountPath ? [] : [path, mountPath];
  });
  const words = [...command, ...args];
  const inside = ["unshare", "--mount", "sh", "-c", mount, "sh", ...mounts, "--", ...words];
  const [program = "", ...rest] = mounts.length === 0 ? words : inside;
  const log = logs === undefined ? "ignore" : openSync(join(logs, `${metadata.name}.${name}.log`), "a");
  return spawn(program, rest, { stdio: ["ignore", log, log], cwd: workingDir });
}

setInterval(look, 50);
process.on("disconnect", () => process.exit(0));
process.on("exit", () => {
  for (const { child } of running.values()) child.kill("SIGKILL");
});
process.on("SIGTERM", () => process.exit(0));
process.send?.("watching");
