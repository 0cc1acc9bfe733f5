import { describe, test } from "vitest";
import { deaths, expectNone, instantsOf, machineLosses, tally, troubles, type Crash } from "./matrix.ts";
import type { Trouble } from "./model.ts";

/** Half a minute each, and a machine that stands still now and then takes many times as long. */
const patient = { timeout: 900_000 };

describe("a restore that is killed at every instant", patient, () => {
  test("of three members", async () => {
    const options = { members: 3 } as const;
    const instants = await instantsOf(options);
    expectNone("three members", instants, await tally(options, deaths(instants, 1, [undefined])));
  });

  test("of one member with a log of its own, also while the host is rebooted or etcd is killed", async () => {
    const options = { members: 1, walDirectory: true } as const;
    const instants = await instantsOf(options);
    expectNone("one member", instants, await tally(options, deaths(instants, 1, troubles)));
  });

  test("with a lock, a history and backups, at a third of all instants since backups take their time", async () => {
    const options = { members: 1, repository: true } as const;
    const instants = await instantsOf(options);
    expectNone("one member and a repository", instants, await tally(options, deaths(instants, 3, [undefined])));
  });

  test("with the machine that it ran on, so that another one has the journal alone, or all but its last lines", async () => {
    const options = { members: 3 } as const;
    const instants = await instantsOf(options);
    expectNone("another machine", instants, await tally(options, machineLosses(instants, 11, [0, 1, 2, 5, 13])));
    const alone = { members: 1, repository: true } as const;
    const fewer = await instantsOf(alone);
    expectNone("another machine, a repository", fewer, await tally(alone, machineLosses(fewer, 17, [0, 1, 3])));
  });

  test("and once more at an instant of what was to bring it to its end", async () => {
    const options = { members: 1, walDirectory: true } as const;
    const instants = await instantsOf(options);
    expectNone("killed twice", instants, await tally(options, twice(instants)));
  });
});

describe("a restore that lives", patient, () => {
  test("while a host is rebooted or etcd is killed comes to its end, or is resumed or rolled back", async () => {
    const options = { members: 3, walDirectory: true } as const;
    const instants = await instantsOf(options);
    expectNone("struck amid", instants, await tally(options, strikes(instants)));
  });
});

/** Steps without a common divisor, so that the pairs are spread over everything. */
function* twice(instants: number): Generator<Crash, void, undefined> {
  for (let dieAt = 1; dieAt <= instants; dieAt += 7) {
    for (let again = 1 + (dieAt % 11); again <= instants; again += 11) {
      yield { dieAt, after: "resume", again };
      yield { dieAt, after: "rollback", again };
    }
  }
}

function* strikes(instants: number): Generator<Crash, void, undefined> {
  const kinds: readonly Trouble[] = ["reboot h1", "kill etcd of h1", "reboot all", "kill all etcd for a while"];
  for (const [offset, trouble] of kinds.entries()) {
    for (let troubleAt = 1 + offset; troubleAt <= instants; troubleAt += 5) {
      yield { trouble, troubleAt, after: "resume" };
      yield { trouble, troubleAt, after: "rollback" };
    }
  }
}
