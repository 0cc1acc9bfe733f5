import { withDeadline, withGrace } from "../deadline.ts";
import { Fault, abortFault, isFault } from "../faults.ts";
import type { PhaseTimer } from "./phases.ts";
import { proveClaim, scanLimitMs, unknown, type Claim, type Finding, type ProveDependencies } from "./prove.ts";

/** A proof under way beside the upload. */
export interface Proving extends AsyncDisposable {
  /** Aborted with the run, and until `settled` when the upload is not worth finishing: its source is in the minority and another member can be taken. */
  readonly signal: AbortSignal;
  /** The same for what follows the upload of the data: a run that ends has a grace then, since all that is left is to verify and commit it. */
  readonly late: AbortSignal;
  /** What was found; whatever goes wrong is a finding too, so that no backup fails of its proof. */
  readonly finding: Promise<Finding>;
  /** Resolves when nothing stands against a commit any more: with the finding, or when members took too long for one. What is found later is recorded, and gives nothing up. */
  readonly settled: () => Promise<void>;
}

/** A backup that exists is worth more than one that is proven: so long it waits, when it could be committed, for members that could refute it. */
const usualSettleMs = 15_000;
/** Beyond this and a few scans a run ends without a verdict, and the backup is asked about later. */
const waitMs = 60_000;
const scansAtMost = 4;

/** Within this an end of the process does not interrupt a commit: systemd gives it a minute, Kubernetes half of one. */
const commitGraceMs = 20_000;

/** Starts to ask members about a file that is being stored. `retakes`: give the upload up where the source is in the minority. */
export function startProving(
  deps: ProveDependencies,
  claim: Claim,
  dbBytes: number,
  retakes: boolean,
  phases: PhaseTimer,
  outer: AbortSignal,
  settleMs = usualSettleMs,
): Proving {
  const upload = new AbortController();
  const ask = new AbortController();
  const grace = withGrace(outer, commitGraceMs);
  let settled = false;
  const prove = async (): Promise<Finding> => {
    const limitMs = waitMs + scansAtMost * scanLimitMs(dbBytes);
    using deadline = withDeadline(AbortSignal.any([outer, ask.signal]), limitMs, "members did not answer");
    try {
      const finding = await proveClaim(deps, claim, deadline.signal);
      if (finding.verdict === "source-diverged" && retakes && !settled) {
        upload.abort(new Fault("failed", `the source is in the minority: ${finding.reason}`));
      }
      return finding;
    } catch (error) {
      const fault = deadline.signal.aborted ? abortFault(deadline.signal) : error;
      if (!isFault(fault)) throw fault;
      return unknown(`members could not be asked: ${fault.message}`);
    }
  };
  const finding = phases.alongside("prove", prove);
  // A bug in there is thrown where it is waited for, also when the upload fails before that.
  finding.catch(() => undefined);
  return {
    signal: AbortSignal.any([outer, upload.signal]),
    late: AbortSignal.any([grace.signal, upload.signal]),
    finding,
    async settled() {
      if (retakes) await within(finding, settleMs);
      settled = true;
    },
    async [Symbol.asyncDispose]() {
      grace[Symbol.dispose]();
      ask.abort(new Fault("interrupted", "the backup ended"));
      await finding;
    },
  };
}

async function within(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  try {
    await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}
