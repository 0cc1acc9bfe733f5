import type { BuiltFile } from "../datadir/datadir.ts";
import { Fault } from "../faults.ts";
import { partOf, type Host, type SentFile } from "../host/host.ts";
import type { JsonObject, RunbookStep, StepCheck, StepContext, StepHandler } from "../runbook/runbook.ts";
import { operationIn, takenBack } from "./aside-names.ts";
import { hygieneOf } from "./hygiene.ts";
import { bringEtcdDown, requireEtcdStopped, textOf } from "./service-steps.ts";
import type { RestoreWork } from "./work.ts";

/**
 * The new data on the hosts. It is brought beside the old while that is still in use, and takes its place by a rename, so that at every instant one of the two is
 * whole under its name; nothing that a member ever ran on is removed here, neither the old data nor the new.
 */

export function fetchStep(work: RestoreWork): StepHandler {
  return {
    check: async () => ({ state: work.hasFetched ? "done" : "pending" }),
    async perform(_step, _context, signal) {
      await work.fetched(signal);
      return undefined;
    },
  };
}

/** What was built, as later steps read it from the journal. Builders give the same for the same, so another process need not build to know it. */
export interface BuiltResult {
  readonly clusterId: string;
  readonly members: readonly { readonly name: string; readonly id: string }[];
  readonly revision: string;
  readonly compactRevision: string;
  readonly hash: number;
  readonly alarmsLeft: readonly { readonly memberId: string; readonly kind: "NOSPACE" | "CORRUPT" | "UNKNOWN" }[];
  readonly downgrade: boolean;
}

export function buildStep(work: RestoreWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(_step, { note }, signal) {
      const built = await work.built(signal);
      const hygiene = await work.deps.survey((await work.fetched(signal)).path, signal);
      const result = {
        clusterId: built.clusterId.toString(16),
        members: built.members.map(({ name, memberId }) => ({ name, id: memberId.toString(16) })),
        revision: built.revision.toString(),
        compactRevision: built.hashKv.compactRevision.toString(),
        hash: built.hashKv.hash,
        alarmsLeft: built.alarmsLeft.map(({ memberId, kind }) => ({ memberId: memberId.toString(16), kind })),
        downgrade: built.downgrade !== undefined,
        hygiene: hygieneOf(hygiene),
      };
      await note(result);
      return result;
    },
  };
}

/** Done once something was noted: the newest note is the result. */
export function noted(notes: readonly JsonObject[]): StepCheck {
  const last = notes.at(-1);
  return last === undefined ? { state: "pending" } : { state: "done", result: last };
}

export function builtResult({ results }: Pick<StepContext, "results">): BuiltResult {
  const found = results.get("build");
  if (found === undefined) throw new Fault("journal-invalid", "the journal does not say what was built");
  return found as unknown as BuiltResult;
}

/** The paths of a step that plan.ts wrote: everything of a member is moved inside its own directories. */
interface Places {
  readonly data: string;
  readonly wal: string | undefined;
  readonly newData: string;
  readonly oldData: string;
  /** Where the new data is kept when a member ran on it before it was taken back. */
  readonly servedData: string;
  readonly servedWal: string | undefined;
  readonly newWal: string | undefined;
  readonly oldWal: string | undefined;
  readonly hadMember: boolean;
}

function placesOf(step: RunbookStep): Places {
  const data = textOf(step, "data");
  const wal = step.args["wal"] === undefined ? undefined : textOf(step, "wal");
  const [newName, oldName] = [textOf(step, "newName"), textOf(step, "oldName")];
  const servedName = `${takenBack}${operationIn(oldName) ?? newName}`;
  return {
    data,
    wal,
    newData: `${data}/member.${newName}`,
    oldData: `${data}/member.${oldName}`,
    servedData: `${data}/member.${servedName}`,
    servedWal: wal === undefined ? undefined : `${wal}/${servedName}`,
    newWal: wal === undefined ? undefined : `${wal}/${newName}`,
    oldWal: wal === undefined ? undefined : `${wal}/${oldName}`,
    hadMember: step.args["hadMember"] === true,
  };
}

export function placeStep(work: RestoreWork): StepHandler {
  return {
    async check(step, _context, signal) {
      const { host } = work.host(step.host ?? "");
      const { newData, newWal } = placesOf(step);
      const there = await Promise.all(
        [newData, ...(newWal === undefined ? [] : [newWal])].map((path) => host.stat(path, signal)),
      );
      return { state: there.every((facts) => facts !== undefined) ? "done" : "pending" };
    },
    async perform(step, context, signal) {
      const { host } = work.host(step.host ?? "");
      const { data, newData, newWal } = placesOf(step);
      await requireSameBuild(work, context, signal);
      const built = await work.builtMember(textOf(step, "member"), signal);
      const selinux = (await host.stat(data, signal))?.selinux;
      const options = { mode: 0o700, owner: ownerOf(step), selinux };
      const walFiles = newWal === undefined ? built.wal.map((file) => ({ ...file, path: `wal/${file.path}` })) : [];
      // Each is there whole or not at all: what is there already is of an earlier try.
      if ((await host.stat(newData, signal)) === undefined)
        await host.receive(newData, sent([...built.data, ...walFiles]), options, signal);
      if (newWal !== undefined && (await host.stat(newWal, signal)) === undefined)
        await host.receive(newWal, sent(built.wal), options, signal);
      return undefined;
    },
    async undo(step, { begun }, signal) {
      const { host } = work.host(step.host ?? "");
      const { newData, newWal, servedData, servedWal } = placesOf(step);
      // A member may have run on it, and somebody may miss what it was told then.
      const served = begun(`start-etcd.${step.host ?? ""}`);
      await discard(host, newData, served ? servedData : undefined, signal);
      if (newWal !== undefined) await discard(host, newWal, served ? servedWal : undefined, signal);
    },
  };
}

/** Other hosts may have their data already, of another machine's making: what is built here must be of the same cluster, and hold the same. */
async function requireSameBuild(work: RestoreWork, context: StepContext, signal: AbortSignal): Promise<void> {
  const noted = builtResult(context);
  const { clusterId, revision, hashKv } = await work.built(signal);
  const same =
    clusterId.toString(16) === noted.clusterId && revision.toString() === noted.revision && hashKv.hash === noted.hash;
  if (same) return;
  throw new Fault("runbook-refused", "what is built here is not what was built when the restore began", {
    hint: "use the version of etcd-lifeboat, and the builder, that began it; or roll back",
  });
}

async function discard(host: Host, tree: string, keptAt: string | undefined, signal: AbortSignal): Promise<void> {
  // A try that was interrupted lies under another name.
  await host.removeTree(partOf(tree), signal);
  if (keptAt === undefined) await host.removeTree(tree, signal);
  else if ((await host.stat(tree, signal)) !== undefined) await host.rename(tree, keptAt, signal);
}

async function* sent(files: readonly BuiltFile[]): AsyncGenerator<SentFile, void, undefined> {
  for (const file of files) {
    const { path, sizeBytes, mode, sha256 } = file;
    yield { path, sizeBytes, mode, sha256, content: (signal) => file.content(signal) };
  }
}

function ownerOf({ id, args }: RunbookStep): { readonly uid: number; readonly gid: number } {
  const { uid, gid } = args;
  if (typeof uid === "number" && typeof gid === "number") return { uid, gid };
  throw new Fault("journal-invalid", `step ${id} of the plan has no owner`);
}

export function swapStep(work: RestoreWork): StepHandler {
  return {
    async check(step, _context, signal) {
      return await swapped(work.host(step.host ?? "").host, placesOf(step), signal);
    },
    async perform(step, _context, signal) {
      const { host } = work.host(step.host ?? "");
      const places = placesOf(step);
      await requireEtcdStopped(work, step, signal);
      // The log first: a member directory without its log does not start, one beside a foreign log starts and lies.
      await swapWal(host, places, signal);
      await swapData(host, places, signal);
      return undefined;
    },
    async undo(step, _context, signal) {
      const { host } = work.host(step.host ?? "");
      const places = placesOf(step);
      await bringEtcdDown(work, step, signal);
      await swapDataBack(host, places, signal);
      await swapWalBack(host, places, signal);
    },
  };
}

async function swapped(
  host: Host,
  { data, newData, oldData, newWal, hadMember }: Places,
  signal: AbortSignal,
): Promise<StepCheck> {
  const stagedPaths = [newData, ...(newWal === undefined ? [] : [newWal, comingOut(newWal)])];
  const [member, aside, ...staged] = await Promise.all(
    [`${data}/member`, oldData, ...stagedPaths].map((path) => host.stat(path, signal)),
  );
  if (staged.some((facts) => facts !== undefined)) return { state: "pending" };
  if (member === undefined)
    return { state: "unknown", detail: `${data} of ${host.name} holds neither the old member nor the new one` };
  if (hadMember && aside === undefined)
    return { state: "unknown", detail: `${oldData} of ${host.name}, the old data, is gone` };
  return { state: "done" };
}

async function swapData(host: Host, { data, newData, oldData }: Places, signal: AbortSignal): Promise<void> {
  if ((await host.stat(newData, signal)) === undefined) return;
  const member = `${data}/member`;
  const [isThere, isOld] = await Promise.all([member, oldData].map((path) => host.stat(path, signal)));
  if (isThere !== undefined && isOld !== undefined) throw inTheWay(host.name, data, oldData);
  if (isThere !== undefined) await host.rename(member, oldData, signal);
  await host.rename(newData, member, signal);
}

async function swapDataBack(
  host: Host,
  { data, newData, oldData, hadMember }: Places,
  signal: AbortSignal,
): Promise<void> {
  const member = `${data}/member`;
  const [isNew, isOld, isThere] = await Promise.all([newData, oldData, member].map((path) => host.stat(path, signal)));
  // Whatever is at member then was not brought there by us.
  if (hadMember && isOld === undefined && (isNew === undefined || isThere === undefined))
    throw gone(host.name, oldData);
  if (isNew !== undefined && isOld !== undefined && isThere !== undefined) throw inTheWay(host.name, data, oldData);
  if (isNew === undefined && isThere !== undefined) await host.rename(member, newData, signal);
  if (isOld !== undefined) await host.rename(oldData, member, signal);
}

/**
 * Changes the content of a WAL directory, which may be a mount point: the old log goes into a directory inside it, then the new one comes out of another. That one
 * gets a third name between the two, so that whoever goes on after an interruption knows whose the files in the directory itself are: as long as the new log lies
 * under its first name they are old, and from then on they are new.
 */
async function swapWal(host: Host, { wal, newWal, oldWal }: Places, signal: AbortSignal): Promise<void> {
  if (wal === undefined || newWal === undefined || oldWal === undefined) return;
  const coming = comingOut(newWal);
  if ((await host.stat(newWal, signal)) !== undefined) {
    await makeBeside(host, wal, oldWal, signal);
    await moveLogs(host, wal, oldWal, signal);
    await host.rename(newWal, coming, signal);
  }
  await moveLogs(host, coming, wal, signal);
  await host.removeTree(coming, signal);
}

async function swapWalBack(host: Host, { wal, newWal, oldWal }: Places, signal: AbortSignal): Promise<void> {
  if (wal === undefined || newWal === undefined || oldWal === undefined) return;
  const coming = comingOut(newWal);
  const [isNew, isOld, isComing] = await Promise.all([newWal, oldWal, coming].map((path) => host.stat(path, signal)));
  if (isNew === undefined) {
    if (isOld === undefined) throw gone(host.name, oldWal);
    if (isComing === undefined) await makeBeside(host, wal, coming, signal);
    await moveLogs(host, wal, coming, signal);
    await host.rename(coming, newWal, signal);
  }
  await moveLogs(host, oldWal, wal, signal);
  await host.removeTree(oldWal, signal);
}

/** A directory of its owner. */
async function makeBeside(host: Host, wal: string, path: string, signal: AbortSignal): Promise<void> {
  const facts = await host.stat(wal, signal);
  if (facts === undefined) throw gone(host.name, wal);
  const { uid, gid } = facts;
  await host.makeDirectory(path, { mode: 0o700, owner: { uid, gid } }, signal);
}

async function moveLogs(host: Host, from: string, to: string, signal: AbortSignal): Promise<void> {
  for (const name of (await host.list(from, signal)) ?? [])
    if (isLog(name)) await host.rename(`${from}/${name}`, `${to}/${name}`, signal);
}

function comingOut(from: string): string {
  return `${from}.out`;
}

/** What etcd itself writes there: segments, files being prepared, and broken ones it set aside. */
function isLog(name: string): boolean {
  return /\.(?:wal|tmp|broken)$/.test(name);
}

/** Old and new both stand aside: an etcd that nothing held was started between the two renames, and began a cluster of its own. */
function inTheWay(host: string, data: string, oldData: string): Fault {
  const member = `${data}/member`;
  return new Fault("host-exists", `${member} of ${host} is there, and the old data is aside in ${oldData}`, {
    hint: `a boot or a person has started etcd there on no data, as an empty cluster: stop it, and move what it made out of the way: mv ${member} ${data}/started-empty`,
  });
}

function gone(host: string, path: string): Fault {
  return new Fault("host-missing", `${path} of ${host} is gone`, {
    hint: "somebody moved it meanwhile; look for it there before anything else",
  });
}
