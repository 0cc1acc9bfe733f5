import { Fault } from "../faults.ts";
import type { JournalRecord } from "../runbook/journal.ts";
import { standingOf } from "../runbook/standing.ts";
import type { HostDependencies, OpenHost } from "./restore.ts";

/** A journal is of one cluster and of its hosts as they were described when it was planned: nothing else may go on with it, or take it back. */

/** Refuses an operation of another cluster than this configuration's: machines know several, a staging beside production. */
export function refuseOtherCluster({ plan }: Pick<JournalRecord, "plan">, cluster: string): void {
  if (plan.cluster === cluster) return;
  throw new Fault(
    "runbook-refused",
    `the ${plan.operation} ${plan.id} is of the cluster ${plan.cluster}, and this configuration is of ${cluster}`,
    { hint: `give the configuration of ${plan.cluster}: --config FILE` },
  );
}

/** Refuses a configuration that says otherwise than the plan where data lies and what runs: steps would be done, or undone, to something else. */
export function refuseOtherPlaces(record: JournalRecord, deps: Pick<HostDependencies, "cluster" | "hosts">): void {
  refuseOtherCluster(record, deps.cluster);
  const { plan, entries } = record;
  const { left } = standingOf(plan, entries);
  for (const { host, args } of plan.steps) {
    if (host === undefined) continue;
    refuseOtherNames(plan, args);
    if (left.has(host)) continue;
    const difference = differenceOf(
      host,
      args,
      deps.hosts.find((open) => open.host.name === host),
    );
    if (difference === undefined) continue;
    const { what, key } = difference;
    throw new Fault("runbook-refused", `the ${plan.operation} ${plan.id} was planned otherwise: ${what}`, {
      hint: `describe ${key} again as it was then, until the operation is finished or taken back`,
    });
  }
}

/** What is moved has the names that the operation's id gives it, and no other: a journal may have come from a host or a store. */
function refuseOtherNames(
  { id, operation }: JournalRecord["plan"],
  { newName, oldName }: JournalRecord["plan"]["steps"][number]["args"],
): void {
  const strange =
    (newName !== undefined && newName !== `restore-${id}`) ||
    (oldName !== undefined && oldName !== `before-restore-${id}`);
  if (strange)
    throw new Fault("journal-invalid", `the plan of the ${operation} ${id} moves data to names that are not its own`, {
      hint: "no version of this program has written it: find out who did",
    });
}

function differenceOf(
  name: string,
  { data, wal, service, way, oldName }: JournalRecord["plan"]["steps"][number]["args"],
  open: OpenHost | undefined,
): { readonly what: string; readonly key: string } | undefined {
  if (open === undefined) return { what: `the configuration has no host ${name}`, key: `hosts.${name}` };
  if (typeof service === "string") {
    const key = `hosts.${name}.services`;
    const found = open.services.find((one) => one.service.name === service)?.service;
    if (found === undefined) return { what: `the configuration has no ${service} on ${name}`, key };
    return anotherWay(`${service} on ${name}`, way, found.description, key);
  }
  if (typeof data !== "string") return undefined;
  const { etcd } = open;
  if (etcd === undefined) return { what: `the configuration has no member on ${name}`, key: `hosts.${name}.etcd` };
  if (etcd.dataDirectory !== data) {
    const what = `the data of ${name} is in ${data}, and not in ${etcd.dataDirectory}`;
    return { what, key: `hosts.${name}.etcd.dataDirectory` };
  }
  // Only steps that move it name the log's directory, where it has one.
  if (oldName !== undefined && etcd.walDirectory !== wal) {
    const planned = typeof wal === "string" ? wal : `${data}/member/wal`;
    const what = `the log of ${name} is in ${planned}, and not in ${etcd.walDirectory ?? `${data}/member/wal`}`;
    return { what, key: `hosts.${name}.etcd.walDirectory` };
  }
  return anotherWay(`etcd on ${name}`, way, etcd.service.description, `hosts.${name}.etcd.service`);
}

/** What was held in one way is not released in another, and would stay down for ever. */
function anotherWay(
  service: string,
  planned: unknown,
  now: string,
  key: string,
): { readonly what: string; readonly key: string } | undefined {
  if (typeof planned !== "string" || planned === now) return undefined;
  return { what: `${service} was run as ${planned}, and the configuration now says ${now}`, key };
}
