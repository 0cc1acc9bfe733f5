import { spawn } from "node:child_process";
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Commands of a service, as a host without systemd has them: `service.ts start|join|stop|probe|disable|enable|enabled DIRECTORY`. The directory's service.json says what to run;
 * `supervised` is started again within a second whenever it ends, as Restart=always does, until it is stopped or disabled. `kill` and `lie` are what a careless
 * configuration gives as stop and probe; `kill9` kills what runs, `power-off` its supervisor as well, and `boot` is what a boot does.
 */
export interface ServiceFile {
  readonly argv: readonly string[];
  readonly supervised?: boolean;
}

export type ServiceAction = "start" | "stop" | "kill" | "kill9" | "power-off" | "boot" | "disable" | "enable";

const [action = "", directory = ""] = process.argv.slice(2);
const at = (name: string): string => join(directory, name);
const read = (name: string): string | undefined => (existsSync(at(name)) ? readFileSync(at(name), "utf8") : undefined);

/** pid and start time, so that another process with the same number is not ours. */
function identify(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : `${pid} ${fields[19]}`;
  } catch {
    return undefined;
  }
}

function running(file: string): number | undefined {
  const known = read(file);
  const pid = Number(known?.split(" ")[0]);
  return known !== undefined && identify(pid) === known ? pid : undefined;
}

/** With what the environment says of the cluster in place of the flags, since etcd 3.4 and later refuse both: how a member joins. */
function joining(argv: readonly string[]): readonly string[] {
  const { ETCD_INITIAL_CLUSTER: cluster, ETCD_INITIAL_CLUSTER_STATE: state } = process.env;
  if (cluster === undefined || state === undefined) return argv;
  return argv.map((word) =>
    word.startsWith("--initial-cluster=")
      ? `--initial-cluster=${cluster}`
      : word.startsWith("--initial-cluster-state=")
        ? `--initial-cluster-state=${state}`
        : word,
  );
}

function launch(argv: readonly string[], file: string): void {
  const log = openSync(at("log"), "a");
  const [program = "", ...args] = argv;
  // etcd reads its own variables, too; who supervises it must keep them.
  const supervises = args.includes("supervise");
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => supervises || !name.startsWith("ETCD_")),
  );
  const child = spawn(program, args, { detached: true, stdio: ["ignore", log, log], cwd: directory, env });
  child.unref();
  if (child.pid === undefined) throw new Error(`${program} did not start`);
  writeFileSync(at(file), identify(child.pid) ?? "");
}

async function end(file: string): Promise<void> {
  const pid = running(file);
  if (pid === undefined) return;
  process.kill(pid, "SIGTERM");
  for (let waitedMs = 0; running(file) !== undefined; waitedMs += 50) {
    if (waitedMs > 30_000) process.kill(pid, "SIGKILL");
    await sleep(50);
  }
}

/** SIGKILL. */
function strike(file: string): void {
  const pid = running(file);
  if (pid !== undefined) process.kill(pid, "SIGKILL");
}

function start(service: ServiceFile): number {
  if (running("pid") !== undefined) return 0;
  const supervise = [process.execPath, import.meta.filename, "supervise", directory];
  launch(service.supervised === true ? supervise : joining(service.argv), "pid");
  return 0;
}

async function main(): Promise<number> {
  const service = JSON.parse(read("service.json") ?? "{}") as ServiceFile;
  switch (action) {
    case "start":
    case "join":
      if (existsSync(at("disabled"))) {
        process.stderr.write("it is disabled\n");
        return 1;
      }
      return start(service);
    case "supervise":
      while (!existsSync(at("disabled"))) {
        if (running("child") === undefined) launch(joining(service.argv), "child");
        await sleep(200);
      }
      await end("child");
      return 0;
    case "stop":
      await end("pid");
      if (service.supervised === true) await end("child");
      return 0;
    case "kill":
      // What an operator does who knows nothing of the supervisor.
      await end("child");
      return 0;
    case "kill9":
      // Its supervisor starts it again.
      strike("child");
      return 0;
    case "power-off":
      strike("pid");
      strike("child");
      return 0;
    case "boot":
      if (existsSync(at("disabled"))) return 0;
      return start(service);
    case "lie":
      return 3;
    case "probe":
      return running("pid") === undefined && running("child") === undefined ? 3 : 0;
    case "disable":
      writeFileSync(at("disabled"), "");
      return 0;
    case "enabled":
      return existsSync(at("disabled")) ? 3 : 0;
    case "enable":
      rmSync(at("disabled"), { force: true });
      return 0;
    default:
      process.stderr.write(`no action ${action}\n`);
      return 2;
  }
}

process.exitCode = await main();
