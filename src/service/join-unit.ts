import { Fault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import type { Joining } from "./service.ts";

/** How etcd is told to join where its unit gives it its flags itself. */

export interface JoinUnitOptions {
  /** Such as `etcd.service`. */
  readonly unit: string;
  /** Where drop-ins of the unit are put. */
  readonly directoryOf: (signal: AbortSignal) => Promise<string>;
  /** The drop-in's own file name: the last of them wins. */
  readonly file: string;
  /** What `systemctl show` says of these properties. */
  readonly show: (properties: readonly string[], signal: AbortSignal) => Promise<string>;
  readonly reload: (signal: AbortSignal) => Promise<void>;
  readonly start: (signal: AbortSignal) => Promise<void>;
}

const fileBytes = 2 ** 20;

/** By a drop-in with the unit's own command line and the flags of a join; it is gone once the member has joined, and the unit itself is never written to. */
export function joinByUnit(host: Host, options: JoinUnitOptions): Joining {
  const { unit, directoryOf, file, show, reload, start } = options;
  const refuse = (why: string): Fault =>
    new Fault("service-unjoinable", `${unit} on ${host.name} ${why}`, {
      hint: `put ETCD_INITIAL_CLUSTER and ETCD_INITIAL_CLUSTER_STATE in place of the flags into a file that the unit reads with EnvironmentFile=, and set hosts.${host.name}.etcd.environmentFile to it`,
    });
  const textAt = async (at: string, signal: AbortSignal): Promise<string> =>
    new TextDecoder().decode((await host.readFile(at, fileBytes, signal)) ?? new Uint8Array());
  const commandLine = async (signal: AbortSignal): Promise<string> => {
    const shown = await show(["FragmentPath", "DropInPaths", "Environment", "EnvironmentFiles"], signal);
    const [, fragment = ""] = /^FragmentPath=(.+)$/m.exec(shown) ?? [];
    if (fragment === "") throw refuse("has no file of its own that says how etcd is started");
    const dropIns = (/^DropInPaths=(.*)$/m.exec(shown)?.[1] ?? "").split(" ").filter((one) => one !== "");
    const environments = [...shown.matchAll(/^EnvironmentFiles=(\S+) /gm)].map(([, at = ""]) => at);
    let lines: readonly string[] = [];
    for (const at of [fragment, ...dropIns.filter((one) => !one.endsWith(`/${file}`))])
      lines = withExecStarts(lines, await textAt(at, signal));
    const variables = [/^Environment=(.*)$/m.exec(shown)?.[1] ?? ""];
    for (const at of environments) variables.push(await textAt(at, signal));
    if (variables.some((text) => /^[^#]*\bETCD_INITIAL_CLUSTER(?:_STATE)?=/m.test(text)))
      throw refuse("has ETCD_INITIAL_CLUSTER in its environment, which etcd refuses beside a flag");
    const [line, another] = lines;
    if (line === undefined || another !== undefined) throw refuse(`has ${lines.length} lines of ExecStart=`);
    return line;
  };
  const joiningLine = async (initialCluster: string, signal: AbortSignal): Promise<string> => {
    const joined = withFlags(await commandLine(signal), initialCluster);
    if (joined === undefined)
      throw refuse("starts etcd by a shell, with a configuration file, or with variables for its members");
    return joined;
  };
  const takeBack = async (_operation: string, signal: AbortSignal): Promise<void> => {
    const directory = await directoryOf(signal);
    const path = `${directory}/${file}`;
    if ((await host.stat(path, signal)) === undefined) return;
    await host.removeFile(path, signal);
    if ((await host.list(directory, signal))?.length === 0) await host.removeTree(directory, signal);
    await reload(signal);
  };
  return {
    async describe(signal) {
      await joiningLine("", signal);
      return `--initial-cluster of all members and --initial-cluster-state=existing stand in a drop-in of ${unit} until it has joined`;
    },
    async prepare(operation, initialCluster, signal) {
      const text = `# Written by etcd-lifeboat: operation ${operation} lets this member join by it, and removes it then.\n[Service]\nExecStart=\nExecStart=${await joiningLine(initialCluster, signal)}\n`;
      const directory = await directoryOf(signal);
      await host.makeDirectory(directory, { mode: 0o755 }, signal);
      await host.writeFile(`${directory}/${file}`, new TextEncoder().encode(text), { mode: 0o600 }, signal);
      await reload(signal);
    },
    start: async (_initialCluster, signal) => await start(signal),
    finish: takeBack,
    undo: takeBack,
  };
}

/** The lines of ExecStart= that are in force once another file of the unit was read: an empty one forgets those before (systemd.service(5)). */
function withExecStarts(before: readonly string[], text: string): readonly string[] {
  let lines = before;
  let section = "";
  // A comment amid a continued line is passed over (systemd.syntax(7)).
  const kept = text.split("\n").filter((line) => !/^\s*[#;]/.test(line));
  for (const line of kept.join("\n").replaceAll(/\\\n/g, " ").split("\n")) {
    section = /^\s*\[([^\]]*)\]/.exec(line)?.[1] ?? section;
    const value = /^\s*ExecStart\s*=\s*(.*?)\s*$/.exec(line)?.[1];
    if (section !== "Service" || value === undefined) continue;
    lines = value === "" ? [] : [...lines, value];
  }
  return lines;
}

/** Items of a command line as they stand there; a quote opens only at an item's beginning. */
const items = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)+/g;

/** The same command line with both flags in their places, or at its end; undefined where it is not etcd itself that reads them there. */
function withFlags(line: string, initialCluster: string): string | undefined {
  const words = [...(line.match(items) ?? [])];
  const flags: Readonly<Record<string, string>> = {
    "initial-cluster": initialCluster,
    "initial-cluster-state": "existing",
  };
  const missing = new Set(Object.keys(flags));
  const joined: string[] = [];
  if (/(?:^|\/)(?:sh|bash|dash|ash|env)$/.test(bare(words[0] ?? ""))) return undefined;
  for (let at = 0; at < words.length; at += 1) {
    const [, flag = "", value] = /^--?([a-z-]+)(?:=(.*))?$/s.exec(bare(words[at] ?? "")) ?? [];
    if (flag === "config-file") return undefined;
    const wanted = flags[flag];
    if (wanted === undefined) {
      joined.push(words[at] ?? "");
      continue;
    }
    const given = value ?? bare(words[(at += 1)] ?? "");
    if (given.includes("$")) return undefined;
    joined.push(item(`--${flag}=${wanted}`));
    missing.delete(flag);
  }
  return [...joined, ...[...missing].map((flag) => item(`--${flag}=${flags[flag] ?? ""}`))].join(" ");
}

/** Without quotes around it; the program also without what systemd reads before it. */
function bare(word: string): string {
  return word.replace(/^(["'])(.*)\1$/s, "$2").replace(/^[@:+!-]+(?=\/)/, "");
}

/** As systemd reads it back: neither a specifier nor a variable. */
function item(text: string): string {
  if (/\p{Cc}/u.test(text))
    throw new Fault("service-unjoinable", `this cannot be written into a unit: ${JSON.stringify(text.slice(0, 500))}`, {
      hint: "a name or a peer URL of a member has signs that neither should have: see etcdctl member list",
    });
  const escaped = text.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w.,:/=[\]@%$-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll(/[\\"]/g, "\\$&")}"`;
}
