/** How much more may fail before a cluster can neither read nor write, and whether it has a sensible number of voters. */
export interface Tolerance {
  readonly voters: number;
  readonly votersUp: number;
  /** So many voters are a majority. */
  readonly needed: number;
  /** So many more may fail now; 0 also where too many have failed already. */
  readonly tolerates: number;
  /** So many the cluster tolerates while all voters are up. */
  readonly toleratesWhole: number;
  /** What would make it better, in words; undefined: nothing that can be counted. */
  readonly advice: string | undefined;
}

/** etcd's own advice: more voters only make each write wait for more disks. */
const votersAtMost = 7;

/** Counts voters; learners decide nothing. */
export function judgeTolerance(
  members: readonly { readonly name: string; readonly learner: boolean; readonly up: boolean }[],
): Tolerance {
  const voting = members.filter(({ learner }) => !learner);
  const voters = voting.length;
  const votersUp = voting.filter(({ up }) => up).length;
  const needed = Math.floor(voters / 2) + 1;
  return {
    voters,
    votersUp,
    needed,
    tolerates: Math.max(0, votersUp - needed),
    toleratesWhole: Math.max(0, voters - needed),
    advice: adviceFor(
      voters,
      members.filter(({ learner }) => learner).map(({ name }) => name),
    ),
  };
}

function adviceFor(voters: number, learners: readonly string[]): string | undefined {
  const promote = learners.length === 0 ? "" : ` (${learners.join(", ")} would count once promoted)`;
  if (voters === 1) return `one voter survives no failure: three survive one${promote}`;
  if (voters === 2) {
    return `two voters survive no failure, and either one stops the cluster: with a third it survives one${promote}`;
  }
  if (voters > votersAtMost) {
    return `${voters} voters make every write wait for more disks: etcd advises ${votersAtMost} at most`;
  }
  if (voters > 0 && voters % 2 === 0) {
    const survives = voters - Math.floor(voters / 2) - 1;
    return `${voters} voters survive ${survives}, as ${voters - 1} do: one more survives ${survives + 1}, one less costs nothing${promote}`;
  }
  return undefined;
}
