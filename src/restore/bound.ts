import { Fault } from "../faults.ts";
import type { JournalRecord } from "../runbook/journal.ts";
import type { RunbookStep } from "../runbook/runbook.ts";
import { standingOf } from "../runbook/standing.ts";
import { replaced } from "./aside-names.ts";
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
  const { left, ended } = standingOf(plan, entries);
  for (const step of plan.steps) {
    const { host, args } = step;
    if (host === undefined) continue;
    refuseStrangeArguments(plan, step);
    const open = deps.hosts.find((one) => one.host.name === host);
    // One that was lost may be gone for good, and out of the configuration.
    if (open === undefined && left.has(host)) continue;
    // Of what has ended nothing is held any more, in whatever way it is run by now.
    const difference = differenceOf(host, ended === undefined ? args : { ...args, way: null }, open);
    if (difference === undefined) continue;
    const { what, key } = difference;
    throw new Fault("runbook-refused", `the ${plan.operation} ${plan.id} was planned otherwise: ${what}`, {
      hint: `describe ${key} again as it was then, until the operation is finished or taken back`,
    });
  }
}

/** Refuses a plan whose facts are not such as its steps read: it came from a host or a store, and not from this program's own hand. */
export function refuseStrangeFacts({ id, operation, facts }: JournalRecord["plan"]): void {
  const shape = operation === "restore" ? restoreFacts : operation === "restore-member" ? rejoinFacts : undefined;
  const strange = shape === undefined ? "operation" : firstOther(facts, shape);
  if (strange === undefined) return;
  throw new Fault("journal-invalid", `the plan of the ${operation} ${id} has no ${strange} that this version knows`, {
    hint: "use the version of etcd-lifeboat that wrote it",
  });
}

/** A pattern that a text fits, or what is in each object of a list, or in an object. */
type Shape = RegExp | readonly [Shape] | { readonly [key: string]: Shape };

const some = /^[^\0]{1,4096}$/;
const number = /^\d{1,20}$/;
const restoreFacts: Shape = {
  source: { kind: /^(?:backup|file|member)$/, name: some, revision: number, sha256: /^[0-9a-f]{64}$/ },
  first: { revision: number, bump: number },
  token: some,
  minor: /^\d\.\d{1,2}$/,
  builder: some,
  members: [{ host: some, name: some, peerUrls: [/^https?:\/\/\S{1,1000}$/] }],
  clientUrls: [{ name: some, urls: [/^https?:\/\/\S{1,1000}$/] }],
};
const rejoinFacts: Shape = { member: some, host: some, oldId: /^[0-9a-f]{1,16}$/, minor: some, peerUrls: [some] };

/** The first field that is not of the shape; undefined when all are. */
function firstOther(value: unknown, shape: Shape): string | undefined {
  if (shape instanceof RegExp) return typeof value === "string" && shape.test(value) ? undefined : "text";
  if (isList(shape)) {
    if (!Array.isArray(value)) return "list";
    return value.map((item) => firstOther(item, shape[0])).find((other) => other !== undefined);
  }
  if (typeof value !== "object" || value === null) return "object";
  for (const [key, inner] of Object.entries(shape)) {
    if (firstOther((value as Readonly<Record<string, unknown>>)[key], inner) !== undefined) return key;
  }
  return undefined;
}

function isList(shape: Shape): shape is readonly [Shape] {
  return Array.isArray(shape);
}

const ofServices = ["stop-service", "start-service"];
const ofData = ["stop-etcd", "place", "swap", "start-etcd", "aside"];

/**
 * What is moved has the names that the operation's id gives it, and no other; a step speaks of a service or of data as its kind does, so that nothing escapes the comparison
 * with the configuration. A journal may have come from a host.
 */
function refuseStrangeArguments(
  { id, operation }: JournalRecord["plan"],
  { kind, args: { newName, oldName, service, data } }: RunbookStep,
): void {
  const named =
    (newName === undefined || newName === `restore-${id}`) && (oldName === undefined || oldName === `${replaced}${id}`);
  const apt = (typeof service === "string") === ofServices.includes(kind);
  if (named && apt && (typeof data === "string" || !ofData.includes(kind))) return;
  throw new Fault(
    "journal-invalid",
    `the plan of the ${operation} ${id} ${named ? `has a step ${kind} that speaks of something else` : "moves data to names that are not its own"}`,
    {
      hint: "no version of this program has written it: find out who did",
    },
  );
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
