import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { Fault } from "../../src/faults.ts";
import { claimSlot, type Claimed, type ClaimedSlot } from "../../src/repository/claims.ts";
import { manifestName } from "../../src/repository/names.ts";
import type { Store } from "../../src/store/store.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { makeLockedBucket, openBucket, versionsOf } from "../store/gateway.ts";
import { backupId, lineageId, repositoryId } from "./sample.ts";

/** Claims in buckets that keep every version, and in one where nothing can be removed at all. */

const { signal } = new AbortController();
const slot: ClaimedSlot = { repository: repositoryId, lineage: lineageId, backup: backupId };
let gateway: TestS3;

beforeAll(async () => {
  gateway = await startS3({ versioning: true });
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

interface Host {
  readonly name: string;
  readonly claimed: Promise<{ readonly host: Host; readonly claim: Claimed }>;
  /** From now on nothing it writes arrives, as after SIGKILL. */
  readonly die: () => void;
  readonly told: readonly string[];
}

function openHost(store: Store, name: string, newId: () => string): Host {
  let dead = false;
  const told: string[] = [];
  const scope = {
    store: {
      ...store,
      create: async (...args: Parameters<Store["create"]>) => {
        if (dead) throw new Fault("store-unreachable", `${name} is dead`);
        await store.create(...args);
      },
    },
    prefix: "coordination",
    clock: systemClock,
    newId,
    author: { host: name, user: "root", pid: 1, version: "0.1.0" },
  };
  const claiming = claimSlot(
    scope,
    slot,
    {
      waiting: () => undefined,
      takenOver: (why, by) => void told.push(`took over from ${by?.host}: ${why}`),
      trouble: (message) => void told.push(message),
    },
    signal,
  );
  const host: Host = {
    name,
    claimed: claiming.then((claim) => ({ host, claim })),
    die: () => void (dead = true),
    told,
  };
  return host;
}

describe.each([
  ["versioned", async () => await gateway.createBucket("versioned")],
  ["locked", async () => await makeLockedBucket(gateway, "locked")],
] as const)("in a %s bucket", (bucket, make) => {
  test("one of three gets the slot, the next one when that dies, the third learns of the commit, and no entry is ever written twice or removed", async () => {
    await make();
    const { store } = openBucket(gateway, { bucket });
    let count = 0;
    const newId = (): string => `01JQ${String(++count).padStart(22, "0")}`;
    const hosts = ["cp1", "cp2", "cp3"].map((name) => openHost(store, name, newId));
    const first = await Promise.race(hosts.map(({ claimed }) => claimed));
    first.host.die();
    const others = hosts.filter((host) => host !== first.host);
    const second = await Promise.race(others.map(({ claimed }) => claimed));
    expect([first.claim.kind, second.claim.kind]).toEqual(["ours", "ours"]);
    expect(second.host.told).toEqual([`took over from ${first.host.name}: stale`]);
    await store.create(manifestName(lineageId, backupId), Buffer.from("{}"), signal);
    second.claim.settle();
    const [third] = others.filter((host) => host !== second.host);
    expect((await third?.claimed)?.claim.kind).toBe("done");
    await first.claim[Symbol.asyncDispose]();
    await second.claim[Symbol.asyncDispose]();
    expect(first.host.told).toContainEqual(expect.stringContaining(`${first.host.name} is dead`));

    const { keys, deleted } = await versionsOf(gateway, bucket);
    const entries = keys.filter((key) => key.includes("/claims/"));
    expect(entries).toEqual(
      entries.map(
        (_, index) =>
          `site/backups/coordination/claims/${lineageId}/${backupId}/${String(index + 1).padStart(6, "0")}.json`,
      ),
    );
    expect([entries.length >= 2, deleted]).toEqual([true, []]);
  });
});
