import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { discardDirectory, makeDirectory } from "../cluster/directories.ts";
import { logTail, startServer, type ServerProcess } from "../cluster/processes.ts";
import { systemdHost } from "../cluster/servers.ts";

/** A host with a systemd of its own, in namespaces of this one. It has a network of its own, too, with nothing but loopback. */
export interface Host extends AsyncDisposable {
  /** Runs a script of bash as root in an environment of its own, at most for two minutes and a half. */
  readonly run: (script: string, input?: string) => Promise<Ran>;
  /** The same, and expects success; gives what it printed, trimmed. */
  readonly sh: (script: string, input?: string) => Promise<string>;
  /** Writes a file of root's with its directories; its mode is octal text. */
  readonly write: (path: string, text: string, mode?: string) => Promise<void>;
}

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Boots the Debian of `scripts/servers systemd-host`; what is written on it is in memory and gone with it. `readable` are files and directories of this
 * host that it sees at other paths. It dies with the process that started it, however that ends: an init of its own, guarded by the kernel, is around it.
 */
export async function bootHost(readable: Readonly<Record<string, string>>): Promise<Host> {
  if (process.getuid?.() !== 0) throw new Error("only root can boot a systemd in namespaces; run this suite as root");
  for (const program of ["unshare", "nsenter"]) {
    const places = (process.env["PATH"] ?? "").split(":").map((place) => join(place, program));
    if (!places.some((place) => existsSync(place))) {
      throw new Error(`${program} is not on the PATH; install util-linux`);
    }
  }
  const base = systemdHost();
  const directory = await makeDirectory("host");
  const log = join(directory, "console.log");
  const groups = await makeControlGroups();
  const binds = Object.entries(readable).map(([inside, outside]) => `--bind-ro=${outside}:${inside}`);
  const options = ["--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=overlay"];
  const files = ["--link-journal=no", "--resolv-conf=off", "--timezone=off", ...binds];
  const nspawn = [...programOf(base), ...options, ...files, "--console=read-only", "--boot", "--directory", base];
  const init = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", ...nspawn];
  const enter = 'for group in $0; do echo $$ >"$group/cgroup.procs" || exit; done; exec "$@"';
  const server = await startServer("sh", ["-c", enter, groups.join(" "), ...init], { log, cwd: directory });
  const dispose = async (): Promise<void> => {
    await server.stop("SIGKILL");
    for (const group of groups) await removeControlGroup(group);
    await discardDirectory(directory);
  };
  try {
    return { ...commands(await systemdOf(server, log)), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** The nspawn of the Debian that is booted, with its own C library: it then suits, whatever this host is. */
function programOf(base: string): readonly string[] {
  const architecture = process.arch === "arm64" ? "aarch64" : "x86_64";
  const loader = process.arch === "arm64" ? "lib/ld-linux-aarch64.so.1" : "lib64/ld-linux-x86-64.so.2";
  const libraries = [`usr/lib/${architecture}-linux-gnu`, `usr/lib/${architecture}-linux-gnu/systemd`];
  const path = libraries.map((library) => join(base, library)).join(":");
  return [join(base, loader), "--library-path", path, join(base, "usr/bin/systemd-nspawn")];
}

/** The process that is PID 1 on the host, once it has started everything. */
async function systemdOf(server: ServerProcess, log: string): Promise<number> {
  const deadlineMs = Date.now() + 150_000;
  while (Date.now() < deadlineMs && server.running) {
    await sleep(200);
    const [nspawn] = await childrenOf(server.pid);
    const [systemd] = nspawn === undefined ? [] : await childrenOf(nspawn);
    if (systemd === undefined || (await textOf(`/proc/${systemd}/comm`)) !== "systemd\n") continue;
    const { stdout } = await commands(systemd).run("systemctl is-system-running --wait");
    if (stdout === "running\n" || stdout === "degraded\n") return systemd;
  }
  throw new Error(`the host did not boot; its console says:\n${existsSync(log) ? await logTail(log) : ""}`);
}

function commands(systemd: number): Omit<Host, typeof Symbol.asyncDispose> {
  const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const inside = [
    "-t",
    `${systemd}`,
    "-m",
    "-u",
    "-i",
    "-n",
    "-p",
    "--",
    "env",
    "-i",
    path,
    "LANG=C.UTF-8",
    "HOME=/root",
  ];
  const run = async (script: string, input = ""): Promise<Ran> => {
    // A process group of its own: a signal that goes astray in there does not come back here.
    const child = spawn("nsenter", [...inside, "bash", "--norc", "-euo", "pipefail", "-c", script], {
      timeout: 150_000,
      detached: true,
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    // A script that ends without reading its input is judged by its exit status.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const [status] = (await once(child, "close")) as [number | null];
    return { status, stdout, stderr };
  };
  const sh = async (script: string, input?: string): Promise<string> => {
    const { status, stdout, stderr } = await run(script, input);
    if (status !== 0) throw new Error(`${script}\nended with ${status}:\n${stderr}${stdout}`);
    return stdout.trim();
  };
  const write = async (path_: string, text: string, mode = "644"): Promise<void> => {
    await sh(`mkdir -p "$(dirname '${path_}')"; (umask 077; cat >'${path_}'); chmod ${mode} '${path_}'`, text);
  };
  return { run, sh, write };
}

async function childrenOf(pid: number): Promise<readonly number[]> {
  const text = await textOf(`/proc/${pid}/task/${pid}/children`);
  return text.split(" ").filter(Boolean).map(Number);
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return ""; // It ended meanwhile.
  }
}

/** Groups of the host's own, below ours, in the hierarchies that systemd uses: what nspawn and systemd make there can then be found and removed. */
async function makeControlGroups(): Promise<readonly string[]> {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").map((line) => line.split(" "));
  const ours = (await readFile("/proc/self/cgroup", "utf8")).split("\n").map((line) => line.split(":"));
  const groups: string[] = [];
  for (const [, controllers, path = "/"] of ours) {
    if (controllers !== "" && controllers !== "name=systemd") continue;
    const mount = mounts.find((fields) => {
      const [type = "", , options = ""] = fields.slice(fields.indexOf("-") + 1);
      return controllers === "" ? type === "cgroup2" : type === "cgroup" && options.split(",").includes(controllers);
    });
    if (mount?.[4] === undefined) continue;
    for (const left of await readdir(join(mount[4], path))) {
      // Of a run that was killed.
      const [, pid] = /^lifeboat-host-(\d+)$/.exec(left) ?? [];
      if (pid !== undefined && !existsSync(`/proc/${pid}`)) await removeControlGroup(join(mount[4], path, left));
    }
    const group = join(mount[4], path, `lifeboat-host-${process.pid}`);
    await mkdir(group, { recursive: true });
    groups.push(group);
  }
  if (groups.length === 0)
    throw new Error("no control groups that systemd could use are mounted; mount cgroup2 at /sys/fs/cgroup");
  return groups;
}

/** From the deepest on; the kernel refuses while a killed process is still leaving. */
async function removeControlGroup(group: string): Promise<void> {
  for (const entry of await readdir(group, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeControlGroup(join(group, entry.name));
  }
  for (let attempt = 0; ; attempt += 1) {
    try {
      await rmdir(group);
      return;
    } catch (error) {
      if (attempt === 50) throw error;
      await sleep(100);
    }
  }
}
