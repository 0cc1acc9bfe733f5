import { accessSync, constants } from "node:fs";
import { join, resolve } from "node:path";

export type Minor = "3.3" | "3.4" | "3.5" | "3.6" | "3.7";

/** Oldest first. */
export const minors: readonly Minor[] = ["3.3", "3.4", "3.5", "3.6", "3.7"];

/** The cache that scripts/servers fills. */
const cache = resolve(process.env["LIFEBOAT_CACHE"] ?? join(import.meta.dirname, "../../.cache"));

/** The path of a minor's program; etcdutl exists from 3.5 on, and 3.5's also works on older data. */
export function etcdProgram(minor: Minor, program: "etcd" | "etcdctl" | "etcdutl"): string {
  const from = program === "etcdutl" && (minor === "3.3" || minor === "3.4") ? "3.5" : minor;
  return present(join(cache, "etcd", from, program), `etcd-${from}`);
}

/** The path of a program that is no etcd. */
export function toolProgram(program: "versitygw" | "bbolt" | "age" | "age-keygen" | "zstd" | "promtool"): string {
  const target = program === "versitygw" ? "s3" : program === "bbolt" ? "bbolt" : "tools";
  return present(join(cache, "bin", program), target);
}

/** The root of Debian's packages of Prometheus and Alertmanager. */
export function monitoringRoot(): string {
  const directory = join(cache, "monitoring");
  present(join(directory, "usr/bin/prometheus-alertmanager"), "monitoring");
  return directory;
}

/** The directory of a small Debian with systemd. */
export function systemdHost(): string {
  const directory = join(cache, "hosts", "bookworm");
  present(join(directory, "usr/bin/systemd-nspawn"), "systemd-host");
  return directory;
}

function present(path: string, target: string): string {
  try {
    accessSync(path, constants.X_OK);
  } catch (cause) {
    throw new Error(`${path} is missing; run: scripts/servers ${target}`, { cause });
  }
  return path;
}
