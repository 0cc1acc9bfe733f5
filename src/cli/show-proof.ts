import type { Proof, ProofAnswer } from "../repository/proof.ts";

/** The rows of `show` about proofs, oldest first: the verdict and why, and who answered what and when. */
export function proofRows(proofs: readonly Proof[], imported: boolean): readonly (readonly [string, string])[] {
  if (proofs.some(({ kind }) => kind === "hashkv")) return proofs.flatMap(rowsOf);
  const none = imported
    ? "none: an imported file says of no cluster that it is its own"
    : "none: its data was not compared with that of the members";
  return [["proof", none], ...proofs.flatMap(rowsOf)];
}

function rowsOf(proof: Proof): readonly (readonly [string, string])[] {
  const verdict = `${proof.verdict} ${proof.madeAt}: ${proof.reason}`;
  if (proof.kind === "boot") {
    const answered =
      proof.hash === null || proof.keys === null ? [] : [`${proof.keys} keys, HashKV ${formatHash(proof.hash)}`];
    const facts = [`etcd ${proof.minor}`, ...answered, `${seconds(proof.tookMs)} s`, proof.programs.join(", ")];
    return [
      ["boot", verdict],
      ["  tried", facts.join("; ")],
    ];
  }
  const votes = [
    `${proof.agreeing.length} of ${proof.voters} voters agree, ${proof.needed} are needed${named(proof.agreeing)}`,
    ...(proof.diverged.length === 0 ? [] : [`other data on ${proof.diverged.join(", ")}`]),
    ...(proof.alone ? ["it is the only member, compared with itself: there is no other to ask"] : []),
  ];
  const decided =
    proof.hash === null || proof.compactRevision === null
      ? []
      : [["  hash", `${formatHash(proof.hash)} at ${proof.revision}, compacted to ${proof.compactRevision}`] as const];
  return [
    ["proof", verdict],
    ["  votes", votes.join("; ")],
    ...decided,
    ...proof.answers.map((answer) => ["  asked", formatAnswer(answer)] as const),
  ];
}

/** Who said what, and when. */
export function formatAnswer({ member, role, askedAt, tookMs, outcome }: ProofAnswer): string {
  const who = `${member} (${role}) ${askedAt}, ${seconds(tookMs)} s`;
  return outcome.kind === "refused"
    ? `${who}: no hash: ${outcome.message} (${outcome.code})`
    : `${who}: ${formatHash(outcome.hash)} at ${outcome.revision}, compacted to ${outcome.compactRevision}`;
}

/** As eight hexadecimal digits; etcdctl prints the same number in decimal. */
function formatHash(hash: number): string {
  return `${hash.toString(16).padStart(8, "0")} (${hash})`;
}

function named(members: readonly string[]): string {
  return members.length === 0 ? "" : `: ${members.join(", ")}`;
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(2);
}
