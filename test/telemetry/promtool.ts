import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** What `promtool check metrics` says of a page; nothing when it is clean. A missing promtool is a failure. */
export function checkMetrics(page: string): string {
  const done = spawnSync(findTool("promtool"), ["check", "metrics"], {
    input: page,
    encoding: "utf8",
    timeout: 30_000,
  });
  if (done.error !== undefined) throw done.error;
  const said = `${done.stdout}${done.stderr}`.trim();
  return done.status === 0 ? said : `${said}\npromtool ended with status ${done.status}`.trim();
}

/** What `promtool check config` says of a configuration of Prometheus; throws when it is wrong. */
export function checkConfig(path: string): string {
  const done = spawnSync(findTool("promtool"), ["check", "config", path], { encoding: "utf8", timeout: 30_000 });
  if (done.error !== undefined) throw done.error;
  if (done.status !== 0) throw new Error(`${done.stdout}${done.stderr}`);
  return done.stdout;
}

/** Where one of Prometheus' programs is; a missing one is a failure. */
export function findTool(name: "promtool"): string {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), join(import.meta.dirname, "../../.cache/bin")];
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (found === undefined) {
    throw new Error(
      `${name} is missing: run scripts/servers tools, or install Prometheus (Debian: apt-get install prometheus)`,
    );
  }
  return found;
}
