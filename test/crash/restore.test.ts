import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mulberry32 } from "../bench/generate.ts";
import { openRestorable, type Restorable } from "../cluster/restorable.ts";

/**
 * Restores of real clusters, killed before and after their steps; etcd and whole hosts are killed, too. Each is resumed or taken back, and must end as one that was
 * left alone. A few cases drawn at random by default; `npm run crash:restore` does all of them, or as many as it is told. LIFEBOAT_SEED repeats a draw.
 */

const wanted = process.env["LIFEBOAT_RESTORES"];
const all = wanted === "all";
/** The case at which it begins, of the same draw. */
const from = Number(process.env["LIFEBOAT_RESTORES_FROM"] ?? 0);
const seed = Number(process.env["LIFEBOAT_SEED"] ?? Date.now() % 2 ** 31);
const confirmed = ["--yes", "--confirm-cluster", "prod", "--quiet-seconds", "1"];
const perCaseMs = 240_000;

const forward = ["before start", "after start", "after perform", "after done"] as const;
const backward = ["before undo start", "after undo start", "after undo", "after undone"] as const;
const troubles = ["nothing else", "every etcd killed", "the first host killed and booted"] as const;

interface Case {
  readonly place: string;
  readonly trouble: (typeof troubles)[number];
  readonly after: "resume" | "rollback";
  /** Where the rollback dies as well. */
  readonly again?: string;
}

interface Counts {
  cases: number;
  killed: number;
  notReached: number;
  resumed: number;
  rolledBack: number;
  tooLate: number;
}

describe.each([
  { about: "one member", options: { minor: "3.6", members: 1, apiServers: true }, sample: 3 },
  { about: "three members with TLS", options: { minor: "3.6", members: 3, tls: true, apiServers: true }, sample: 2 },
] as const)("restores of $about that are killed", ({ about, options, sample }) => {
  let site: Restorable;
  let backup: string;
  let cases: readonly Case[];
  const counts: Counts = { cases: 0, killed: 0, notReached: 0, resumed: 0, rolledBack: 0, tooLate: 0 };

  beforeAll(async () => {
    site = await openRestorable(options);
    await site.cluster.put("kept", "then");
    const made = await site.site.json<{ lineage: string; backup: string }>(["backup"]);
    backup = `${made.lineage}/${made.backup}`;
    const { plan } = await site.site.json<{ plan: { steps: { id: string }[] } }>(["restore", "--plan"]);
    cases = choose(
      plan.steps.map(({ id }) => id),
      wanted === undefined || all ? sample : Number(wanted),
      options.members,
    );
  }, 600_000);

  afterAll(async () => {
    const line = [
      `${about}: seed ${seed}, ${counts.cases} cases, ${counts.killed} killed, ${counts.notReached} not (the step had nothing to do)`,
      `${counts.resumed} brought to their end, ${counts.rolledBack} taken back, ${counts.tooLate} too late to be taken back and resumed`,
    ].join(", ");
    console.log(line);
    const file = process.env["LIFEBOAT_WRITE"];
    if (file !== undefined) await writeFile(file, `${line}\n`, { flag: "a" });
    await site?.[Symbol.asyncDispose]();
  });

  test(
    all ? "at every step end as those that are not" : "at steps drawn at random end as those that are not",
    { timeout: (wanted === undefined ? 10 : 400) * perCaseMs, retry: 0 },
    async () => {
      for (const [index, one] of cases.entries()) {
        if (index < from) continue;
        const text = `${about}, case ${index} of ${cases.length}, seed ${seed}: ${JSON.stringify(one)}`;
        const beganMs = performance.now();
        await play(site, backup, one, `now ${index}`, counts, text);
        const seconds = ((performance.now() - beganMs) / 1000).toFixed(1);
        if (wanted !== undefined) console.log(`passed in ${seconds} s: ${text}`);
      }
      expect(counts.killed).toBeGreaterThan(0);
    },
  );
});

/** Every place of every step with each end, and each place of a rollback; or so many of them. */
function choose(steps: readonly string[], sample: number, members: number): readonly Case[] {
  const random = mulberry32(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const performed = steps.filter((step) => step !== "fetch");
  const places = performed.flatMap((step) => forward.map((place) => `${step} ${place}`));
  // What changes nothing that would have to be taken back is none of the way back.
  const undone = performed.filter((step) => !/^(?:build|safety-backup|healthy|lineage|revision)/.test(step));
  const twice = undone.flatMap((step) => backward.map((place) => `${step} ${place}`));
  const died = places.flatMap((place, index): readonly Case[] => {
    const trouble = troubles[index % troubles.length] ?? "nothing else";
    return [
      { place, trouble, after: "resume" },
      { place, trouble, after: "rollback" },
    ];
  });
  const both = twice
    .filter((place) => !/^(?:start\.|first-backup|unlock)/.test(place))
    .map((again): Case => ({ place: "healthy after done", trouble: "nothing else", after: "rollback", again }));
  if (!all) return Array.from({ length: sample }, (_, index) => (index % 4 === 1 ? pick(both) : pick(died)));
  // Three members have three times the steps, and each case takes twice as long.
  return members === 1 ? [...died, ...both] : [...died, ...both].filter((_, index) => index % 5 === 0);
}

/** One restore that dies, time that passes without it, and what brings it to its end. */
async function play(
  site: Restorable,
  backup: string,
  { place, trouble, after, again }: Case,
  now: string,
  counts: Counts,
  about: string,
): Promise<void> {
  const { cluster } = site;
  counts.cases += 1;
  await cluster.put("kept", now);
  const before = await cluster.revision();
  const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: `step ${place}` };
  const first = await site.site.run(["restore", "--backup", backup, ...confirmed], { env });
  // What was true already is not performed, and the places of that are not reached.
  const killed = first.signal === "SIGKILL";
  if (!killed) expect(first.status, `${about}\n${first.stderr}`).toBe(0);
  counts[killed ? "killed" : "notReached"] += 1;
  await expectWhole(site, about);
  await strike(site, trouble);
  if (killed && again !== undefined) {
    const dies = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: `step ${again}` };
    const second = await site.site.run(["restore", "--rollback", ...confirmed], { env: dies });
    expect(second.signal, `${about} was not killed again: ${second.stderr}`).toBe("SIGKILL");
    counts.killed += 1;
    await expectWhole(site, about);
  }
  const end = killed ? await finish(site, after, about) : "resumed";
  counts[end] += 1;
  expect(await cluster.get("kept"), about).toBe(end === "rolledBack" ? now : "then");
  expect(await cluster.revision(), about).toBeGreaterThanOrEqual(
    end === "rolledBack" ? before : before + 1_000_000_000n - 10_000n,
  );
  for (const [index, member] of cluster.members.entries()) {
    expect(await site.runs(`api${index + 1}`), `the API server of ${about}`).toBe(true);
    const names = await readdir(member.dataDirectory);
    const asides = names.filter((name) => name.startsWith("member."));
    // What a member ran on before it was taken back is kept.
    if (end === "rolledBack") expect(asides.join(), about).toMatch(/^$|^member\.rolled-back-[0-9A-Z]{26}$/);
    else expect(asides, about).toEqual([expect.stringMatching(/^member\.before-restore-/)]);
    // An operator who is sure.
    for (const aside of asides) await rm(join(member.dataDirectory, aside), { recursive: true });
    const log = await readFile(join(site.directoryOf(`api${index + 1}`), "log"), "utf8");
    expect(log, about).not.toContain("WENT BACK");
  }
}

/** Resumes or rolls back; where nothing was begun there is nothing to do, and where clients were answered a rollback is refused and the restore is finished. */
async function finish(
  { site }: Restorable,
  after: "resume" | "rollback",
  about: string,
): Promise<"resumed" | "rolledBack" | "tooLate"> {
  // Its journal is the newest one; asking the command for it takes a second, a thousand times.
  const journals = (await readdir(join(site.directory, "operations"))).filter((name) => name.endsWith(".jsonl"));
  const id = journals.toSorted().at(-1)?.slice(0, -".jsonl".length) ?? "";
  const ended = await site.run(["restore", `--${after}`, id, ...confirmed]);
  if (after === "rollback" && ended.status === 4 && ended.stderr.includes("clients may have seen")) {
    const resumed = await site.run(["restore", "--resume", id, ...confirmed]);
    expect(resumed.status, `${about}\n${resumed.stderr}`).toBe(0);
    return "tooLate";
  }
  expect(ended.status, `${about}\n${ended.stderr}`).toBe(0);
  return after === "resume" ? "resumed" : "rolledBack";
}

/** At every instant a whole data directory is there under its name: the old one, or the new one, or both side by side. */
async function expectWhole({ cluster }: Restorable, about: string): Promise<void> {
  for (const { name, dataDirectory } of cluster.members) {
    const found = (await readdir(dataDirectory)).filter((entry) => /^member(?:\.|$)/.test(entry));
    expect(found.length, `${name} of ${about}: ${found.join(", ")}`).toBeGreaterThan(0);
    expect(
      found.some((entry) => entry === "member" || entry.startsWith("member.before-restore-")),
      `the old data of ${name} of ${about}`,
    ).toBe(true);
    for (const entry of found) {
      const inside = await readdir(join(dataDirectory, entry), { recursive: true });
      expect(inside, `${entry} of ${name} of ${about}`).toContain("snap/db");
      expect(
        inside.some((file) => /^wal\/.*\.wal$/.test(file)),
        `${entry} of ${name} of ${about}`,
      ).toBe(true);
    }
  }
}

async function strike(site: Restorable, trouble: Case["trouble"]): Promise<void> {
  const { members } = site.cluster;
  if (trouble === "every etcd killed") await Promise.all(members.map(({ name }) => site.command(name, "kill9")));
  if (trouble !== "the first host killed and booted") return;
  const services = [members[0]?.name ?? "", "api1"];
  await Promise.all(services.map((service) => site.command(service, "power-off")));
  await Promise.all(services.map((service) => site.command(service, "boot")));
}
