import type { Host } from "../host/host.ts";
import type { JournalRecord } from "../runbook/journal.ts";
import type { RunbookStep } from "../runbook/runbook.ts";
import { standingOf } from "../runbook/standing.ts";
import { beingRemoved, operationIn, replaced, takenBack } from "./aside-names.ts";
import type { HostDependencies } from "./restore.ts";

/** Old data of one member: what an operation moved aside and left. */
export interface Aside {
  /** ULID of the operation that left it. */
  readonly operation: string;
  /** Its command, such as `restore`. */
  readonly command: string;
  /** Milliseconds since 1970 at which it ended. */
  readonly leftMs: number;
  readonly host: string;
  readonly member: string;
  /** The step of its plan that moved it. */
  readonly step: string;
  /** Where the data of the member is now. */
  readonly current: string;
  /** Directories, each by its own name, that belong to nothing else. */
  readonly paths: readonly AsidePath[];
}

export interface AsidePath {
  readonly path: string;
  /** Its name while it is removed: nobody shall take half of it for the whole. */
  readonly removing: string;
  /** A removal of it was interrupted. */
  readonly half: boolean;
  /** On disk. */
  readonly bytes: number;
}

/** Old data whose operation this machine does not know. */
export interface StrangeAside {
  readonly host: string;
  readonly path: string;
}

export interface Asides {
  readonly found: readonly Aside[];
  readonly strange: readonly StrangeAside[];
}

/** What operations that were finished have left on the hosts. Reads only; rejects where a host cannot be reached. */
export async function findAsides(
  { hosts }: HostDependencies,
  records: readonly JournalRecord[],
  signal: AbortSignal,
): Promise<Asides> {
  const found: Aside[] = [];
  const strange: StrangeAside[] = [];
  for (const { host, etcd } of hosts) {
    if (etcd === undefined) continue;
    const known = new Set<string>();
    for (const record of records) {
      const { plan, entries } = record;
      const leftMs = entries.findLast(({ kind }) => kind === "ended")?.timeMs ?? 0;
      for (const step of plan.steps.filter(({ host: name }) => name === host.name)) {
        const places = placesOf(step);
        if (places === undefined) continue;
        for (const { path, removing } of [...places.done, ...places["rolled-back"]]) known.add(path).add(removing);
        const { ended } = standingOf(plan, entries);
        if (ended !== "done" && ended !== "rolled-back") continue;
        const paths = (await Promise.all(places[ended].map((at) => lookAt(host, at, signal)))).flat();
        if (paths.length === 0) continue;
        const { id: operation, operation: command } = plan;
        const of = { operation, command, leftMs, host: host.name, member: etcd.member, step: step.id };
        found.push({ ...of, current: places.current, paths });
      }
    }
    for (const path of await namedLikeAsides(host, etcd, signal))
      if (!known.has(path)) strange.push({ host: host.name, path });
  }
  return { found, strange };
}

/** Everything in, and beside, the member's directories that has a name as a restore or restore-member gives it. */
async function namedLikeAsides(
  host: Host,
  { dataDirectory, walDirectory }: NonNullable<HostDependencies["hosts"][number]["etcd"]>,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const places = [{ directory: dataDirectory, before: "member." }];
  if (walDirectory !== undefined) {
    const cut = walDirectory.lastIndexOf("/");
    places.push(
      { directory: walDirectory, before: "" },
      { directory: walDirectory.slice(0, cut), before: `${walDirectory.slice(cut + 1)}.` },
    );
  }
  const found: string[] = [];
  for (const { directory, before } of places) {
    const names = (await host.list(directory === "" ? "/" : directory, signal)) ?? [];
    const like = names.filter((name) =>
      [replaced, takenBack, beingRemoved].some((one) => name.startsWith(`${before}${one}`)),
    );
    found.push(...like.map((name) => `${directory}/${name}`));
  }
  return found;
}

interface Place {
  readonly path: string;
  readonly removing: string;
}

/** What lies beside the data of a member once its operation is done: the old data; or is rolled back: the new data, where a member ran on it. */
interface Places {
  readonly current: string;
  readonly done: readonly Place[];
  readonly "rolled-back": readonly Place[];
}

/** Where a step that moves data aside puts it; undefined for other steps, and for names that no plan of ours has. */
function placesOf({ kind, args }: RunbookStep): Places | undefined {
  const { data, wal, oldName } = args;
  if (kind !== "swap" && kind !== "aside") return undefined;
  if (typeof data !== "string" || typeof oldName !== "string") return undefined;
  const id = operationIn(oldName);
  if (id === undefined) return undefined;
  const named =
    (name: string) =>
    (before: string): Place => ({ path: `${before}${name}${id}`, removing: `${before}${beingRemoved}${id}` });
  // One that joins a member anew moves its whole log directory; a restore moves the files in it.
  const before = [`${data}/member.`, ...(typeof wal === "string" ? [kind === "swap" ? `${wal}/` : `${wal}.`] : [])];
  return {
    current: `${data}/member`,
    done: before.map(named(replaced)),
    "rolled-back": kind === "swap" ? before.map(named(takenBack)) : [],
  };
}

async function lookAt(host: Host, { path, removing }: Place, signal: AbortSignal): Promise<readonly AsidePath[]> {
  const looks = [
    { path, removing, half: false, at: path },
    { path, removing, half: true, at: removing },
  ];
  const there = await Promise.all(
    looks.map(async ({ at, ...place }): Promise<readonly AsidePath[]> => {
      const facts = await host.stat(at, signal);
      return facts?.kind === "directory" ? [{ ...place, bytes: await host.treeSize(at, signal) }] : [];
    }),
  );
  return there.flat();
}
