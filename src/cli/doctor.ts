import { examineEtcd } from "../doctor/etcd.ts";
import type { Finding } from "../doctor/finding.ts";
import { examineHost } from "../doctor/host.ts";
import { examineStore } from "../doctor/store.ts";
import { faultKinds } from "../faults.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

export interface DoctorOptions extends CommonOptions {
  /** Leaves out what writes to the store. */
  readonly readOnly?: boolean;
}

/**
 * Examines etcd, the store and this host, and says of each thing how it is and what helps. The status is 0 unless there is a problem, and then the first
 * one's, by the table of faults.
 */
export async function doctorCommand(environment: Environment, options: DoctorOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const findings = await examine(tools, environment, options, signal);
  if (options.json === true) printJson(console, documentOf(tools, findings));
  else console.out(textOf(findings));
  const problem = findings.find(({ severity }) => severity === "problem");
  return problem?.code === undefined ? 0 : faultKinds[problem.code].exit;
}

async function examine(
  tools: Tools,
  { console }: Environment,
  { readOnly }: DoctorOptions,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { config, warnings } = tools.loaded;
  const deps = await tools.backup(() => undefined);
  const etcd = await examineEtcd(deps, signal);
  const sizes = (etcd.facts?.members ?? []).flatMap(({ seen }) => (seen.up ? [seen.status.dbBytes] : []));
  const store =
    readOnly === true
      ? []
      : await examineStore(
          {
            store: deps.store,
            bucket: tools.examineBucket,
            clock: tools.clock,
            newId: tools.newId,
            expires: config.retention?.expire === true,
          },
          signal,
        );
  const host = await examineHost(
    {
      spoolDirectory: config.spool.directory,
      space: () => deps.spool.space(),
      storeDirectory: config.repository.store.kind === "directory" ? config.repository.store.directory : undefined,
      largestBytes: sizes.length === 0 ? undefined : Math.max(...sizes),
      path: console.env["PATH"] ?? "",
      processes: "/proc",
    },
    signal,
  );
  // What config check would say belongs to the whole picture: keys that everybody may read, plain text on the network.
  const configured = warnings.map(({ about, message }): Finding => ({
    area: "config",
    check: about,
    severity: "warning",
    message,
    help: undefined,
    code: undefined,
  }));
  return [...etcd.findings, ...store, ...host, ...configured].toSorted((a, b) => rank(a) - rank(b));
}

const order = ["problem", "warning", "unknown", "note", "ok"];

function rank({ severity }: Finding): number {
  return order.indexOf(severity);
}

function documentOf(tools: Tools, findings: readonly Finding[]): object {
  return {
    schema: "etcd-lifeboat/doctor/v1",
    cluster: tools.loaded.config.cluster.name,
    findings: findings.map(({ area, check, severity, message, help, code }) => ({
      area,
      check,
      severity,
      message,
      help: help ?? null,
      code: code ?? null,
    })),
  };
}

const words: Readonly<Record<Finding["severity"], string>> = {
  problem: "PROBLEM",
  warning: "warning",
  unknown: "unknown",
  note: "note",
  ok: "ok",
};

function textOf(findings: readonly Finding[]): string {
  const count = (severity: Finding["severity"]): number => findings.filter((one) => one.severity === severity).length;
  const table = formatTable([
    ["", "WHERE", "WHAT", "HELPS"],
    ...findings.map(({ area, check, severity, message, help }) => [
      words[severity],
      area === "config" ? check : `${area} ${check}`,
      message,
      help ?? "",
    ]),
  ]);
  return `${table}${count("problem")} problems, ${count("warning")} warnings, ${count("unknown")} unknown, ${count("ok")} as they should be\n`;
}
