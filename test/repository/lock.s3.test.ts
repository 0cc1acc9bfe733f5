import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { formatDuration, formatTime } from "../../src/format.ts";
import { closedGate, judgeLock } from "../../src/repository/gates.ts";
import {
  acquireLock,
  localAuthor,
  pauseRepository,
  readLock,
  resumeRepository,
  unlockRepository,
  type LockScope,
} from "../../src/repository/lock.ts";
import type { Store } from "../../src/store/store.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { makeLockedBucket, openBucket, versionsOf } from "../store/gateway.ts";

/** The lock in buckets that keep every version, and in one where nothing can be removed at all. */

const signal = new AbortController().signal;
const describeTimes = { time: formatTime, duration: formatDuration };
let gateway: TestS3;

beforeAll(async () => {
  gateway = await startS3({ versioning: true });
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

async function versioned(): Promise<Store> {
  await gateway.createBucket("versioned");
  return openBucket(gateway, { bucket: "versioned" }).store;
}

async function locked(): Promise<Store> {
  await makeLockedBucket(gateway, "locked");
  return openBucket(gateway, { bucket: "locked" }).store;
}

describe.each([
  ["versioned", versioned],
  ["locked", locked],
] as const)("in a %s bucket", (bucket, open) => {
  test("the lock is taken, refused, released, unlocked, paused and resumed, and no entry is ever written twice or removed", async () => {
    const store = await open();
    const scope: LockScope = {
      store,
      cluster: "prod",
      prefix: "coordination",
      clock: systemClock,
      newId: ids(),
      author: localAuthor("0.1.0"),
      describe: describeTimes,
    };
    const why = async (): Promise<string | undefined> =>
      closedGate(judgeLock(await readLock(scope, signal), Date.now()), "backup", describeTimes)?.code;
    const tries = await Promise.allSettled([1, 2, 3].map(() => acquireLock(scope, "restore", false, signal)));
    const [held, ...more] = tries.flatMap((tried) => (tried.status === "fulfilled" ? [tried.value] : []));
    expect([held !== undefined, more]).toEqual([true, []]);
    expect(await why()).toBe("locked");
    await held?.[Symbol.asyncDispose]();
    expect(await why()).toBeUndefined();
    await pauseRepository(scope, "test", signal);
    expect(await why()).toBe("paused");
    await resumeRepository(scope, signal);
    const dead = await acquireLock(scope, "upgrade", false, signal);
    await unlockRepository(scope, await readLock(scope, signal), signal);
    expect(await why()).toBeUndefined();
    await dead[Symbol.asyncDispose]();
    const { keys, deleted } = await versionsOf(gateway, bucket);
    expect(deleted).toEqual([]);
    expect(keys).toEqual([1, 2, 3, 4, 5, 6].map((n) => `site/backups/coordination/lock/00000000${n}.json`));
  });
});

/** ULIDs that sort by creation. */
function ids(): () => string {
  let count = 0;
  return () => `01JQ${String(++count).padStart(22, "0")}`;
}
