/** A member that may vote. */
export interface Voter {
  readonly id: bigint;
  readonly name: string;
  /** A scan of the leader holds up every writer of the cluster, so it is asked last. */
  readonly leader: boolean;
}

/** What one member said when it was asked for HashKV at the file's revision, or at revision 0 (`atHead`), which is its newest. */
export interface Answer {
  readonly member: bigint;
  readonly atHead: boolean;
  readonly outcome: HashOutcome | RefusedOutcome;
}

export interface HashOutcome {
  readonly kind: "hash";
  /** Who answered, as the answer itself says. */
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly hash: number;
  /** What the member had compacted to when it hashed; -1n for never. */
  readonly compactRevision: bigint;
  /** The member's newest revision. */
  readonly revision: bigint;
  /** The revision that was hashed; etcd up to 3.5 does not say. */
  readonly hashRevision: bigint | undefined;
}

export interface RefusedOutcome {
  readonly kind: "refused";
  /** `compacted`: the revision is not there any more, or is the compaction itself (up to 3.4.26, 3.5.9). `passing`: the same question may be answered later. */
  readonly why: "compacted" | "passing" | "lasting";
  readonly message: string;
}

/** Everything that is known about a backup's file and what members said of it so far. */
export interface Evidence {
  readonly clusterId: bigint;
  /** The member that the file came from. Its file speaks for it where it is a voter; a learner's file speaks for nobody. */
  readonly source: bigint;
  readonly voters: readonly Voter[];
  readonly allowLeader: boolean;
  /** Of the file. */
  readonly revision: bigint;
  readonly compactRevision: bigint;
  /** HashKV of the file by compaction revision. */
  readonly hashes: ReadonlyMap<bigint, number>;
  /** Live keys of the file. */
  readonly keys: number;
  /** False where the file is gone, so that no other compaction revision can be hashed. */
  readonly hashable: boolean;
  /** In the order of asking. */
  readonly answers: readonly Answer[];
}

/** Why a backup is only sealed. `passing`: asking again later may prove it. */
export interface Sealed {
  readonly kind: "sealed";
  readonly why: "compacted" | "too-few" | "disagree" | "leader" | "incomparable";
  readonly passing: boolean;
  readonly reason: string;
}

export interface Proven {
  readonly kind: "proven";
  /** The only voter was compared with itself: there is nobody else to ask. */
  readonly alone: boolean;
  readonly reason: string;
  readonly compactRevision: bigint;
  readonly hash: number;
}

/** A majority of all voters agrees on other data than the file's. */
export interface SourceDiverged {
  readonly kind: "source-diverged";
  readonly reason: string;
  readonly compactRevision: bigint;
  readonly hash: number;
}

/** What to do next: ask a member, hash the file at a compaction revision, or nothing any more. */
export type Step =
  | { readonly kind: "ask"; readonly member: bigint; readonly atHead: boolean }
  | { readonly kind: "hash"; readonly compactRevision: bigint }
  | ((Proven | SourceDiverged | Sealed) & Counted);

export type Conclusion = Exclude<Step, { readonly kind: "ask" | "hash" }>;

export interface Counted {
  readonly needed: number;
  /** Voters whose data is that of the file, the source among them where it votes and nothing speaks against it. */
  readonly agreeing: readonly bigint[];
  /** Members whose data was found twice to be other than the majority's. */
  readonly diverged: readonly bigint[];
}

/** A member that changes its words is not asked for ever. */
const asksAtMost = 4;

/**
 * Judges the evidence (docs/operating/proof.md): proven is what a majority of all voters agrees with. Answers count when they come from the member that was
 * asked, at the file's revision, and the file was hashed at the answer's own compaction revision; a difference counts when it was seen twice.
 */
export function judge(evidence: Evidence): Step {
  const { voters, source } = evidence;
  const needed = Math.floor(voters.length / 2) + 1;
  const votes = voters.some(({ id }) => id === source);
  const alone = votes && voters.length === 1;
  const others = alone ? voters : voters.filter(({ id }) => id !== source);
  const standings = others.map((voter) => ({ voter, ...standing(evidence, voter.id) }));
  const unhashed = standings.find(({ unhashedAt }) => unhashedAt !== undefined)?.unhashedAt;
  if (unhashed !== undefined) return { kind: "hash", compactRevision: unhashed };

  const own = votes && !alone ? [source] : [];
  const agreeing = standings.filter(({ state }) => state === "agrees");
  const differing = standings.filter(({ state }) => state === "differs");
  const confirmed = differing.filter(({ times }) => times > 1);
  const proven = own.length + agreeing.length >= needed;
  const against = largestGroup(confirmed);

  // One difference is never acted on: it is looked at again, also when the others have decided already.
  const doubted = differing.filter(({ times, next }) => times === 1 && next !== undefined);
  if (proven) {
    const [doubt] = doubted.filter(({ voter }) => evidence.allowLeader || !voter.leader);
    if (doubt !== undefined) return ask(doubt);
    const [witness] = agreeing;
    return {
      kind: "proven",
      alone,
      reason: alone
        ? "the only voter of the cluster was compared with itself"
        : `${own.length + agreeing.length} of ${voters.length} voters agree, ${needed} are needed`,
      ...decidedBy(witness),
      needed,
      agreeing: [...own, ...ids(agreeing)],
      diverged: ids(confirmed),
    };
  }
  if (against.length >= needed) {
    return {
      kind: "source-diverged",
      reason: `${against.length} of ${voters.length} voters agree with each other and not with the source`,
      ...decidedBy(against[0]),
      needed,
      agreeing: [],
      diverged: [...(alone ? [] : [source]), ...ids(agreeing)],
    };
  }

  // Two that differ from the file may well be equal to each other and only have been compacted between the questions.
  const newest = highest(confirmed.map(({ decided }) => decided?.compactRevision ?? -1n));
  const older = confirmed.find(
    ({ decided, asked }) => decided !== undefined && decided.compactRevision < newest && asked < asksAtMost,
  );
  if (confirmed.length >= needed && older !== undefined) return ask(older);

  const open = standings.filter(
    ({ next, voter }) => next !== undefined && (evidence.allowLeader || !voter.leader || alone),
  );
  const mayAgree = open.filter(({ state }) => state !== "agrees");
  const mayProve = own.length + agreeing.length + mayAgree.length >= needed;
  const mayRefute = confirmed.length + doubted.length + open.filter(({ state }) => state === "open").length >= needed;
  if (mayProve || mayRefute) {
    const [best] = mayAgree.toSorted(byTurn);
    if (best !== undefined) return ask(best);
  }
  return {
    ...seal(evidence, standings, own.length, needed),
    needed,
    agreeing: [...own, ...ids(agreeing)],
    diverged: [],
  };
}

/** Where one member stands by everything that it said. */
interface Standing {
  readonly state: "agrees" | "differs" | "open" | "silent";
  /** How often in a row it differed. */
  readonly times: number;
  /** How it is to be asked next; undefined: there is no use in it. */
  readonly next: { readonly atHead: boolean } | undefined;
  /** The file has to be hashed at this compaction revision before the newest answer can be compared. */
  readonly unhashedAt: bigint | undefined;
  /** Of the newest comparable answer. */
  readonly decided: { readonly compactRevision: bigint; readonly hash: number } | undefined;
  /** Why it counts nothing, where it was asked in vain. */
  readonly trouble: Trouble | undefined;
  readonly asked: number;
}

interface Trouble {
  readonly kind: "compacted" | "passing" | "lasting" | "incomparable";
  readonly message: string;
}

type Judged = Standing & { readonly voter: Voter };

function standing(evidence: Evidence, member: bigint): Standing {
  let state: Standing["state"] = "open";
  let times = 0;
  let next: Standing["next"] = { atHead: false };
  let unhashedAt: bigint | undefined;
  let decided: Standing["decided"];
  let trouble: Trouble | undefined;
  let asked = 0;
  for (const answer of evidence.answers) {
    if (answer.member !== member) continue;
    asked += 1;
    const read = readAnswer(evidence, answer);
    trouble = undefined;
    unhashedAt = undefined;
    switch (read.kind) {
      case "unhashed":
        unhashedAt = read.compactRevision;
        break;
      case "equal":
        ({ decided } = read);
        state = "agrees";
        times = 0;
        next = undefined;
        break;
      case "other":
        ({ decided } = read);
        times = state === "differs" ? times + 1 : 1;
        state = "differs";
        next = times > 1 ? undefined : { atHead: answer.atHead };
        break;
      case "useless":
        ({ trouble } = read);
        // A difference that could not be looked at again stays one that was seen once.
        if (state !== "differs") state = read.next === undefined ? "silent" : "open";
        ({ next } = read);
        break;
    }
  }
  return { state, times, next: asked < asksAtMost ? next : undefined, unhashedAt, decided, trouble, asked };
}

type ReadAnswer =
  | {
      readonly kind: "equal" | "other";
      readonly decided: { readonly compactRevision: bigint; readonly hash: number };
    }
  | { readonly kind: "unhashed"; readonly compactRevision: bigint }
  | { readonly kind: "useless"; readonly trouble: Trouble; readonly next: Standing["next"] };

function readAnswer(evidence: Evidence, { member, atHead, outcome }: Answer): ReadAnswer {
  if (outcome.kind === "refused") {
    const { why, message } = outcome;
    // The members that refuse their compaction revision hash the newest one, which is the same while nobody writes.
    const next = why === "compacted" && !atHead ? { atHead: true } : undefined;
    return useless(why, message, next);
  }
  const { clusterId, memberId, hash, compactRevision, revision, hashRevision } = outcome;
  if (clusterId !== evidence.clusterId)
    return useless("passing", `answers for cluster ${clusterId.toString(16)}, not ${evidence.clusterId.toString(16)}`);
  if (memberId !== member) return useless("passing", `is answered by member ${memberId.toString(16)}`);
  if (atHead && revision !== evidence.revision)
    return useless(
      "compacted",
      `has compacted revision ${evidence.revision}, or hashed it for an earlier compaction, and is at ${revision} by now`,
    );
  if (hashRevision !== undefined && hashRevision !== evidence.revision)
    return useless("lasting", `hashed revision ${hashRevision}, not ${evidence.revision}`);
  if (compactRevision > evidence.revision)
    return useless("compacted", `has compacted up to ${compactRevision}, past ${evidence.revision}`);
  if (compactRevision < evidence.compactRevision) {
    // From 3.5.5 on, the revision of a past compaction is answered from a cache, as of the compaction before it; the newest revision never is.
    const message = `hashed as of its compaction at ${compactRevision}, and the file is compacted at ${evidence.compactRevision}`;
    return useless(atHead ? "passing" : "incomparable", message, { atHead: true });
  }
  const expected = evidence.hashes.get(compactRevision);
  const decided = { compactRevision, hash };
  if (expected === hash) return { kind: "equal", decided };
  // Where nothing is kept, etcd leaves out nothing (hash.go): equal members differ then while they have removed more or fewer old rows.
  if (expected !== undefined && evidence.keys === 0 && compactRevision >= 0n) {
    const message = "cannot be compared: no key is left, so its hash depends on how many old rows were removed";
    return useless("incomparable", message);
  }
  if (expected !== undefined) return { kind: "other", decided };
  if (evidence.hashable) return { kind: "unhashed", compactRevision };
  return useless(
    "incomparable",
    `has compacted up to ${compactRevision} since, and the file that could be hashed there is gone`,
  );
}

function useless(kind: Trouble["kind"], message: string, next?: Standing["next"]): ReadAnswer {
  return { kind: "useless", trouble: { kind, message }, next };
}

/** Those who were never asked before those who were, followers before the leader. */
function byTurn(a: Judged, b: Judged): number {
  return Number(a.voter.leader) - Number(b.voter.leader) || a.asked - b.asked;
}

function ask({ voter, next }: Judged): Step {
  return { kind: "ask", member: voter.id, atHead: next?.atHead === true };
}

function highest(values: readonly bigint[]): bigint {
  return values.reduce((top, value) => (value > top ? value : top), -1n);
}

/** The most members that told one and the same hash at one compaction revision. */
function largestGroup(differing: readonly Judged[]): readonly Judged[] {
  const groups = new Map<string, Judged[]>();
  for (const one of differing) {
    const key = `${one.decided?.compactRevision}/${one.decided?.hash}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()].reduce<readonly Judged[]>(
    (most, group) => (group.length > most.length ? group : most),
    [],
  );
}

function decidedBy(one: Judged | undefined): { readonly compactRevision: bigint; readonly hash: number } {
  if (one?.decided === undefined) throw new TypeError("a verdict needs an answer that decides it");
  return one.decided;
}

function ids(standings: readonly Judged[]): readonly bigint[] {
  return standings.map(({ voter }) => voter.id);
}

/** Why there is no majority either way. */
function seal(evidence: Evidence, standings: readonly Judged[], own: number, needed: number): Sealed {
  const words = standings.flatMap(({ voter, state, times, trouble }) => {
    if (state === "agrees") return [];
    if (state === "differs") return [`${voter.name} differs${times > 1 ? "" : " (seen once)"}`];
    if (trouble !== undefined) return [`${voter.name} ${trouble.message}`];
    return [
      voter.leader ? `${voter.name} is the leader and proof.allowLeader is false` : `${voter.name} was not asked`,
    ];
  });
  const agreeing = own + standings.filter(({ state }) => state === "agrees").length;
  const counted = `${agreeing} of ${evidence.voters.length} voters agree, ${needed} are needed`;
  const told = (what: string): string => `${what}: ${[counted, ...words].join("; ")}`;

  if (standings.some(({ state }) => state === "differs")) {
    return { kind: "sealed", why: "disagree", passing: true, reason: told("members disagree") };
  }
  const barred = standings.filter(({ voter, state }) => voter.leader && state === "open" && !evidence.allowLeader);
  // Would it be enough if everybody answered whose trouble may pass?
  const hopeful = standings.filter(({ state, trouble }) => state === "open" || trouble?.kind === "passing").length;
  const passing = agreeing + hopeful - barred.length >= needed;
  if (passing) return { kind: "sealed", why: "too-few", passing, reason: told("too few voters answer") };
  if (agreeing + hopeful >= needed) {
    return { kind: "sealed", why: "leader", passing, reason: told("only the leader could prove it") };
  }
  const compacted = standings.some(({ trouble }) => trouble?.kind === "compacted");
  const incomparable = standings.some(({ trouble }) => trouble?.kind === "incomparable");
  if (compacted) return { kind: "sealed", why: "compacted", passing, reason: told("compacted before it was compared") };
  if (incomparable)
    return { kind: "sealed", why: "incomparable", passing, reason: told("compacted while it was compared") };
  return { kind: "sealed", why: "too-few", passing, reason: told("too few voters can answer") };
}
