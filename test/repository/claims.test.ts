import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import {
  claimSlot,
  isClaimName,
  type Claimed,
  type ClaimedSlot,
  type ClaimScope,
  type ClaimTold,
} from "../../src/repository/claims.ts";
import { manifestName } from "../../src/repository/names.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";
import { backupId, lineageId, repositoryId } from "./sample.ts";

const startMs = Date.UTC(2026, 2, 1, 12);
const slot: ClaimedSlot = { repository: repositoryId, lineage: lineageId, backup: backupId };
const folder = `coordination/claims/${lineageId}/${backupId}`;

interface Host {
  readonly scope: ClaimScope;
  readonly told: ClaimTold & { readonly lines: string[] };
  readonly claim: (signal?: AbortSignal) => Promise<Claimed>;
  /** From now on nothing it writes arrives, as after SIGKILL or in front of a broken network. */
  readonly die: () => void;
}

interface Rig {
  readonly store: MemoryStore;
  readonly clock: SteeredClock;
  /** A daemon; its wall clock is off by so much. */
  readonly host: (name: string, offMs?: number) => Host;
  readonly commit: () => void;
  readonly entries: () => readonly string[];
}

function openRig(): Rig {
  const clock = steeredClock(startMs);
  const store = memoryStore(() => clock.now());
  let count = 0;
  return {
    store,
    clock,
    host(name, offMs = 0) {
      let dead = false;
      const scope: ClaimScope = {
        store: {
          ...store,
          create: async (object, body, signal) => {
            if (dead) throw new Fault("store-unreachable", `${name} is dead`);
            await store.create(object, body, signal);
          },
        },
        prefix: "coordination",
        clock: { now: () => clock.now() + offMs, elapsed: clock.elapsed, sleep: clock.sleep },
        newId: () => `01JQ${String(++count).padStart(22, "0")}`,
        author: { host: name, user: "root", pid: 1, version: "0.1.0" },
      };
      const lines: string[] = [];
      const told = {
        lines,
        waiting: (by: { host: string }) => void lines.push(`waits for ${by.host}`),
        takenOver: (why: string, by: { host: string } | undefined) =>
          void lines.push(`took over from ${by?.host ?? "nobody"}: ${why}`),
        trouble: (message: string) => void lines.push(`trouble: ${message}`),
      };
      return {
        scope,
        told,
        claim: (signal = calm) => claimSlot(scope, slot, told, signal),
        die: () => void (dead = true),
      };
    },
    commit() {
      const bytes = Buffer.from("{}");
      store.objects.set(manifestName(lineageId, backupId), { bytes, modifiedMs: clock.now() });
    },
    entries: () => [...store.objects.keys()].filter((name) => name.startsWith(folder)).toSorted(),
  };
}

describe("a claim", () => {
  test("that lives keeps others waiting, however long the run is and whatever their clocks say, until its manifest is there", async () => {
    const rig = openRig();
    const [one, two, three] = [rig.host("cp1"), rig.host("cp2", 3_600_000), rig.host("cp3", -3_600_000)];
    await using held = await one.claim();
    expect(held).toMatchObject({ kind: "ours", waited: false });
    const ends: string[] = [];
    const waiting = [two, three].map(async (host) => ends.push((await host.claim()).kind));
    await rig.clock.advance(2 * 3_600_000);
    expect(ends).toEqual([]);
    rig.commit();
    held.settle();
    await rig.clock.advance(5000);
    await Promise.all(waiting);
    expect(ends).toEqual(["done", "done"]);
    expect([one, two, three].map(({ told }) => told.lines)).toEqual([[], ["waits for cp1"], ["waits for cp1"]]);
  });

  test("writes one entry for a short run, and one a minute for a long one; none is written twice or removed", async () => {
    const rig = openRig();
    const held = await rig.host("cp1").claim();
    await rig.clock.advance(1900);
    expect(rig.entries()).toEqual([`${folder}/000001.json`]);
    await rig.clock.advance(3_600_000);
    expect(rig.entries().length).toBeGreaterThan(58);
    expect(rig.entries().length).toBeLessThan(68);
    held.settle();
    await held[Symbol.asyncDispose]();
    const before = rig.entries().length;
    await rig.clock.advance(3_600_000);
    expect(rig.entries()).toHaveLength(before);
    expect(new Set(rig.store.calls.map(({ method }) => method))).toEqual(new Set(["list", "create"]));
    expect(rig.entries().every((name) => isClaimName("coordination", name))).toBe(true);
  });

  test("of a dead daemon is taken over by one of those who wait, a while after its last entry, and no sooner", async () => {
    const rig = openRig();
    const [one, two, three] = [rig.host("cp1"), rig.host("cp2", -600_000), rig.host("cp3")];
    await one.claim();
    one.die();
    const ends: Claimed[] = [];
    const waiting = [two, three].map(async (host) => ends.push(await host.claim()));
    await rig.clock.advance(5900);
    expect(ends).toEqual([]);
    await rig.clock.advance(2000);
    expect(ends).toMatchObject([{ kind: "ours", waited: true }]);
    const [taker] = ends;
    expect([...two.told.lines, ...three.told.lines].toSorted()).toEqual([
      "took over from cp1: stale",
      "waits for cp1",
      "waits for cp1",
    ]);
    await rig.clock.advance(600_000);
    expect(ends).toHaveLength(1);
    rig.commit();
    taker?.settle();
    await taker?.[Symbol.asyncDispose]();
    await rig.clock.advance(5000);
    await Promise.all(waiting);
    expect(ends[1]).toMatchObject({ kind: "done" });
  });

  test("of a run that had gone on for long is believed for longer", async () => {
    const rig = openRig();
    const [one, two] = [rig.host("cp1"), rig.host("cp2")];
    await one.claim();
    await rig.clock.advance(1_200_000);
    one.die();
    let end: Claimed | undefined;
    const waiting = two.claim().then((claimed) => (end = claimed));
    await rig.clock.advance(170_000);
    expect(end).toBeUndefined();
    await rig.clock.advance(20_000);
    expect(end).toMatchObject({ kind: "ours" });
    await waiting;
  });

  test("that was given up lets the next one begin at once, and again the one that gave it up", async () => {
    const rig = openRig();
    const [one, two] = [rig.host("cp1"), rig.host("cp2")];
    await (await one.claim())[Symbol.asyncDispose]();
    await (await one.claim())[Symbol.asyncDispose]();
    expect(await two.claim()).toMatchObject({ kind: "ours", waited: false });
    expect([one.told.lines, two.told.lines]).toEqual([[], ["took over from cp1: given-up"]]);
  });

  test("that somebody took over is left to them", async () => {
    const rig = openRig();
    const [one, two] = [rig.host("cp1"), rig.host("cp2")];
    const held = await one.claim();
    one.die();
    const taking = two.claim();
    await rig.clock.advance(10_000);
    await taking;
    const entries = rig.entries().length;
    await held[Symbol.asyncDispose]();
    expect(rig.entries()).toHaveLength(entries);
  });

  test.each([
    ["no JSON", "nonsense"],
    ["of a future format", JSON.stringify({ schema: "etcd-lifeboat/claim/v2" })],
    ["of another repository", undefined],
  ])("of nonsense (%s) keeps nobody from working, and is told", async (_, text) => {
    const rig = openRig();
    const [one, two] = [rig.host("cp1"), rig.host("cp2")];
    await claimSlot(one.scope, { ...slot, repository: lineageId }, one.told, calm);
    one.die();
    const name = `${folder}/000001.json`;
    if (text !== undefined) rig.store.objects.set(name, { bytes: Buffer.from(text), modifiedMs: startMs });
    expect(await two.claim()).toMatchObject({ kind: "ours", waited: false });
    expect(two.told.lines).toEqual([
      expect.stringMatching(/^trouble: a claim is passed over: coordination\/claims\//),
      "took over from nobody: unreadable",
    ]);
  });

  test("that uses up all numbers, and a store that takes no claims, keep nobody from working", async () => {
    const rig = openRig();
    const [one, two] = [rig.host("cp1"), rig.host("cp2")];
    rig.store.objects.set(`${folder}/999999.json`, { bytes: Buffer.from("{}"), modifiedMs: startMs });
    expect(await one.claim()).toMatchObject({ kind: "ours", waited: false });
    expect(one.told.lines).toEqual([expect.stringContaining("another daemon may do the same work")]);
    rig.store.objects.clear();
    const denied = new Fault("store-denied", "no");
    const struck = rig.store.trouble({ method: "create", name: "coordination/claims/", fail: denied });
    expect(await two.claim()).toMatchObject({ kind: "ours", waited: false });
    expect([struck(), two.told.lines.length]).toEqual([1, 1]);
  });

  test("in a store that does not answer is that fault", async () => {
    const rig = openRig();
    const one = rig.host("cp1");
    rig.store.trouble({ method: "list", nth: 1, fail: new Fault("store-unreachable", "gone") });
    await expect(one.claim()).rejects.toMatchObject({ code: "store-unreachable" });
    expect(one.told.lines).toEqual([]);
  });

  test("ends with the run that waits for it", async () => {
    const rig = openRig();
    const [one, two] = [rig.host("cp1"), rig.host("cp2")];
    await using held = await one.claim();
    const controller = new AbortController();
    const ended = two.claim(controller.signal).catch((error: unknown) => error);
    await rig.clock.advance(60_000);
    controller.abort(new Fault("interrupted", "stop"));
    expect(await ended).toMatchObject({ code: "interrupted" });
    expect(held.kind).toBe("ours");
  });

  test("among any daemons that die, wait and commit: somebody always gets to work, and nobody waits for ever", async () => {
    const step = fc.record({ die: fc.boolean(), passMs: fc.integer({ min: 0, max: 200_000 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
        const rig = openRig();
        const ends: Claimed[] = [];
        const waiting: Promise<unknown>[] = [];
        for (const [index, { die, passMs }] of steps.entries()) {
          const host = rig.host(`cp${index}`);
          waiting.push(
            host.claim().then((claimed) => {
              ends.push(claimed);
              // Whoever lives works for a while, and commits.
              if (die) host.die();
              else if (claimed.kind === "ours") {
                rig.commit();
                claimed.settle();
              }
            }),
          );
          await rig.clock.advance(passMs);
        }
        await rig.clock.advance(steps.length * 400_000);
        await Promise.all(waiting);
        expect(ends).toHaveLength(steps.length);
        // Whoever is alive and was not the first to commit finds it done.
        const works = ends.filter(({ kind }) => kind === "ours").length;
        const deaths = steps.filter(({ die }) => die).length;
        expect(works).toBeLessThanOrEqual(deaths + 1);
        await Promise.all(ends.map(async (claimed) => await claimed[Symbol.asyncDispose]()));
      }),
      { numRuns: 40 },
    );
  });
});
