import { generateKeyPairSync } from "node:crypto";
import { createWriteStream } from "node:fs";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseCron } from "../../src/config/cron.ts";
import { slotAfter } from "../../src/daemon/slots.ts";
import type { RetentionPolicy } from "../../src/snapshot/keep.ts";
import { startCommand, type Ended } from "../cluster/command.ts";
import { discardDirectory, holdDirectories, makeDirectory, settleDirectories } from "../cluster/directories.ts";
import { startCluster, type TestCluster } from "../cluster/harness.ts";
import { runProgram } from "../cluster/processes.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { toolProgram } from "../cluster/servers.ts";
import { checkCopy, checkExpiry, checkKept } from "./check-kept.ts";
import { checkSlots } from "./check-slots.ts";
import { parseLine, type Evidence, type Line, type Span } from "./evidence.ts";
import { openLooks, readUnits, watchRepository, type Watched } from "./looks.ts";
import { checkCounters, freshness, readPage } from "./pages.ts";
import { planTrouble, type Trouble } from "./trouble.ts";
import { asOnHost, listenOn, openUnit, readUnit, type Life, type Unit } from "./unit.ts";
import { startWriter } from "./writer.ts";

/**
 * Three daemons with one configuration, as systemd runs them, on a cluster of three TLS members and two S3 servers, the second for copies, under writes, while members, the stores and
 * the daemons are killed, stopped and continued by a script that the seed makes. Afterwards every slot is accounted for, every listed backup verifies,
 * nothing is kept that had to go, and nothing went that had to stay.
 *
 *   npm run soak:cluster                                          an hour
 *   npm run soak:cluster -- --minutes 5 --seed 7
 *   npm run soak:cluster -- --minutes 60 --write cluster.txt      keeps what it says in docs/runs
 */

const flag = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
};
const minutes = Number(flag("--minutes", "60"));
const seed = Number(flag("--seed", String(Math.floor(Date.now() / 1000) % 100_000)));
const written = flag("--write", "");
const source = fileURLToPath(new URL("../..", import.meta.url));

const schedules = [
  { name: "often", cron: "*/10 * * * * *" },
  { name: "minute", cron: "0 * * * * *" },
];
const names = schedules.map(({ name }) => name);
const retention = { last: 4, hourly: 2, daily: 1, within: minutes >= 20 ? "4m" : "45s", minProven: 3 };
const policy: RetentionPolicy = {
  last: 4,
  hourly: 2,
  daily: 1,
  weekly: 0,
  monthly: 0,
  yearly: 0,
  withinMs: minutes >= 20 ? 240_000 : 45_000,
  maxBytes: undefined,
  minProven: 3,
  schedules: names,
};
/** Old revisions go soon, so that an hour of writes does not make the database grow. */
const flags = ["--auto-compaction-mode=periodic", "--auto-compaction-retention=1m"];
/** The end of it is quiet: what is wrong by then stays wrong. */
const quietMs = 75_000;

const said: string[] = [];
const violations: string[] = [];
const lines: Line[] = [];
const troubles: Span[] = [];
const pauses = new Map<string, Span[]>();
holdDirectories();
const root = await makeDirectory("soak");
try {
  await soak();
  for (const violation of new Set(violations)) say(`VIOLATION ${violation}`);
  say(violations.length === 0 ? "nothing is wrong" : `${new Set(violations).size} things are wrong`);
  if (written !== "") await writeFile(join(source, "docs/runs", written), `${said.join("\n")}\n`);
} finally {
  await discardDirectory(root);
  await settleDirectories({ failed: violations.length > 0 });
}
process.exitCode = violations.length === 0 ? 0 : 1;

function say(text: string): void {
  const line = `${new Date().toISOString()} ${text}`;
  said.push(line);
  console.log(line);
}

async function soak(): Promise<void> {
  const file = readUnit(await readFile(join(source, "systemd/etcd-lifeboat.service"), "utf8"));
  const durationMs = minutes * 60_000 - quietMs;
  const plan = planTrouble({ seed, durationMs, members: 3, daemons: 3, watchdogMs: file.watchdogMs });
  say(
    `seed ${seed}, ${minutes} minutes, ${plan.length} troubles, schedules ${schedules.map(({ cron }) => cron).join(" and ")}`,
  );
  await using cluster = await startCluster({ members: 3, tls: true, flags });
  await using s3 = await startS3({ tls: true });
  await using copy = await startS3();
  for (const server of [s3, copy]) await server.createBucket("soak");
  const [repository, copied] = [s3, copy].map(({ directory }) => join(directory, "soak", "prod")) as [string, string];
  const config = await writeConfig(cluster, s3, copy);
  const env = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey };
  const units = await openUnits(file, config, env);
  const sockets = units.map(({ name }) => join(root, `${name}.notify`));
  await using _listener = await listenOn(sockets, (socket, message) => units[socket]?.notified(message));
  const stopWriter = await startWriter(cluster, { keys: 4000, valueBytes: 1000, everyMs: 15 });
  const watch = watchRepository(repository, 500);
  const watchCopy = watchRepository(copied, 1000);
  const inspected = inspectForever(units);
  const told = tellNowAndThen(units, watch.soFar);
  const beganMs = Date.now();
  try {
    for (const unit of units) unit.start();
    await until("three daemons are ready", 120_000, () => units.every(({ state }) => state() === "active"));
    await makeTrouble(plan, beganMs, { cluster, s3, copy, units });
    say("all is well again");
    // What was killed last has to be seen as gone first.
    await sleep(1000);
    for (const unit of units) if (unit.state() === "inactive") unit.start();
    await settle(units);
  } finally {
    clearInterval(told);
    for (const unit of units) await unit.stop();
    const { puts, failedPuts } = await stopWriter();
    say(`puts ${puts}, failed puts ${failedPuts}`);
    violations.push(...(await inspected()));
  }
  const watched = await watch.stop();
  const watchedCopy = await watchCopy.stop();
  violations.push(...watched.troubles, ...watchedCopy.troubles.map((what) => `copy: ${what}`));
  violations.push(...checkCopy(policy, watchedCopy.looks).map((what) => `copy: ${what}`));
  const evidence = gather(units, watched);
  judge(evidence, units, file);
  await checkSpools();
  await checkRepository(repository, config, env, evidence);
  await checkCopied(repository, copied, config, env);
}

async function writeConfig(cluster: TestCluster, s3: TestS3, copy: TestS3): Promise<string> {
  const [config, identity] = [join(root, "config.yaml"), join(root, "age.key")];
  const { tls } = cluster;
  if (tls === undefined || s3.tls === undefined) throw new Error("both must have TLS");
  await runProgram(toolProgram("age-keygen"), ["-o", identity]);
  await chmod(identity, 0o600);
  const recipient = (await runProgram(toolProgram("age-keygen"), ["-y", identity])).trim();
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const [key, trusted] = [join(root, "signing.pem"), join(root, "signing.pub")];
  await writeFile(key, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  await writeFile(trusted, publicKey.export({ type: "spki", format: "pem" }));
  const placeOn = ({ url, region }: TestS3): object => {
    return { bucket: "soak", prefix: "prod", endpoint: url, region, pathStyle: true };
  };
  await writeFile(
    config,
    JSON.stringify({
      cluster: { name: "soak", endpoints: cluster.endpoints, tls: { ca: tls.ca, cert: tls.cert, key: tls.key } },
      repository: {
        store: { s3: { ...placeOn(s3), ca: s3.tls.ca } },
        copies: [{ name: "copy", store: { s3: placeOn(copy) } }],
        encryption: { recipients: [recipient], identity: { file: identity } },
        signing: { key: { file: key }, trusted: [trusted] },
      },
      spool: { directory: join(root, "spool") },
      schedules,
      retention: { ...retention, expire: true },
      http: { listen: "127.0.0.1:0" },
      log: { level: "debug", format: "json" },
    }),
  );
  return config;
}

async function openUnits(
  file: ReturnType<typeof readUnit>,
  config: string,
  env: Readonly<Record<string, string>>,
): Promise<readonly Unit[]> {
  await mkdir(join(root, "spool"), { mode: 0o700 });
  return await Promise.all(
    [1, 2, 3].map(async (number) => {
      const name = `cp${number}`;
      const spool = join(root, `${name}.spool`);
      await mkdir(spool, { mode: 0o700 });
      const log = createWriteStream(join(root, `${name}.log`), { flags: "a" });
      return openUnit({
        name,
        file,
        args: ["run", "--config", config],
        env,
        wrap: asOnHost(name, spool, join(root, "spool")),
        socket: join(root, `${name}.notify`),
        onLine(text, life) {
          log.write(`${text}\n`);
          lines.push(parseLine(processName(life), text));
        },
      });
    }),
  );
}

function processName({ unit, number }: Life): string {
  return `${unit}/${number}`;
}

interface Stage {
  readonly cluster: TestCluster;
  readonly s3: TestS3;
  readonly copy: TestS3;
  readonly units: readonly Unit[];
}

/** Each lane in its own order: what takes longer to come right than was planned puts off what comes next. The last of all comes when all else is right. */
async function makeTrouble(plan: readonly Trouble[], beganMs: number, stage: Stage): Promise<void> {
  const last = plan.at(-1);
  const lanes = Map.groupBy(plan.slice(0, -1), ({ kind }) => kind.slice(0, kind.indexOf("-")));
  const endMs = beganMs + (last?.atMs ?? 0);
  await Promise.all(
    [...lanes.values()].map(async (lane) => {
      let fromMs = 0;
      for (const trouble of lane) {
        const atMs = Math.max(beganMs + trouble.atMs, fromMs);
        if (atMs > endMs) return;
        await perform(trouble, atMs, stage);
        fromMs = Date.now() + 5000;
      }
    }),
  );
  if (last !== undefined) await perform(last, endMs, stage);
}

async function perform(trouble: Trouble, atMs: number, { cluster, s3, copy, units }: Stage): Promise<void> {
  await sleep(Math.max(0, atMs - Date.now()));
  const fromMs = Date.now();
  const whom = "members" in trouble ? trouble.members : "daemons" in trouble ? trouble.daemons : [];
  say(`${trouble.kind} ${whom.map((index) => index + 1).join(",")} for ${(trouble.forMs / 1000).toFixed(1)} s`);
  const members = whom.flatMap((index) => cluster.members[index] ?? []);
  const daemons = whom.flatMap((index) => units[index] ?? []);
  const wait = async (): Promise<void> => await sleep(trouble.forMs);
  switch (trouble.kind) {
    case "member-killed":
      await Promise.all(members.map((member) => member.stop("SIGKILL")));
      await wait();
      await Promise.all(members.map((member) => startAgain(member)));
      break;
    case "member-paused":
      for (const member of members) member.pause();
      await wait();
      for (const member of members) member.resume();
      break;
    case "store-killed":
      await s3.stop("SIGKILL");
      await wait();
      await s3.start();
      break;
    case "store-paused":
      s3.pause();
      await wait();
      s3.resume();
      break;
    case "copy-killed":
      await copy.stop("SIGKILL");
      await wait();
      await copy.start();
      // What is wrong with the copy excuses nothing.
      return;
    case "copy-paused":
      copy.pause();
      await wait();
      copy.resume();
      return;
    case "daemon-killed":
      for (const unit of daemons) unit.kill("SIGKILL");
      return;
    case "daemon-paused": {
      const paused = daemons.flatMap((unit) => unit.lives.at(-1) ?? []);
      for (const unit of daemons) unit.kill("SIGSTOP");
      await wait();
      for (const unit of daemons) unit.kill("SIGCONT");
      for (const life of paused) {
        const name = processName(life);
        pauses.set(name, [...(pauses.get(name) ?? []), { fromMs, toMs: Date.now() }]);
      }
      return;
    }
    case "daemon-stopped":
      await Promise.all(daemons.map((unit) => unit.stop()));
      await wait();
      for (const unit of daemons) unit.start();
      return;
    case "daemon-reloaded":
      // As `systemctl reload`: whoever still starts would be ended by the signal.
      for (const unit of daemons) if (unit.state() === "active") unit.reload();
      return;
  }
  troubles.push({ fromMs, toMs: Date.now() + 5000 });
}

/** A machine that is busy takes longer than a test would wait; whoever ended instead is another matter. */
async function startAgain(member: TestCluster["members"][number]): Promise<void> {
  try {
    await member.start();
  } catch (error) {
    if (!member.running) throw error;
    say(`${member.name} runs again and takes its time to answer`);
  }
}

/** After the end of all trouble each daemon runs, each schedule has a backup, and all metrics agree with what is there. */
async function settle(units: readonly Unit[]): Promise<void> {
  const healedMs = Date.now();
  await until("three daemons are ready again", 120_000, () => units.every(({ state }) => state() === "active"));
  await until("each schedule has a backup after all was healed", 180_000, () =>
    names.every((name) =>
      lines.some(
        ({ event, fields }) =>
          event === "backup.committed" && fields["schedule"] === name && Number(fields["slotMs"]) > healedMs,
      ),
    ),
  );
  const present = units
    .map(({ lives }) => lives.at(-1))
    .flatMap((life) => (life === undefined ? [] : processName(life)));
  await until("somebody expires after all was healed", 120_000, () =>
    lines.some(({ event, process }) => event === "retention.applied" && present.includes(process)),
  );
  for (const unit of units) {
    const life = unit.lives.at(-1);
    const listen = lines.findLast(
      ({ event, process }) => event === "daemon.ready" && life !== undefined && process === processName(life),
    )?.fields["listen"];
    if (life === undefined || typeof listen !== "string")
      throw new Error(`${unit.name} does not say where its pages are`);
    // A commit of this moment may be in one of the two only.
    let wrong: readonly string[] = [];
    const agreed = await until(`the metrics of ${unit.name} agree with the repository`, 120_000, async () => {
      const seenBefore = lines.length;
      const page = await readPage(listen);
      await sleep(300);
      const own = lines.filter(({ process }) => process === processName(life));
      const between = lines.slice(seenBefore).some(({ event }) => event === "backup.committed");
      if (between) return false;
      wrong = [...checkCounters(page, own, names), ...freshness(page, lines, names)];
      return wrong.length === 0;
    });
    if (!agreed) violations.push(...wrong.map((what) => `${unit.name}: ${what}`));
  }
}

/** Waits for a condition; one that never comes true is a violation. */
async function until(what: string, withinMs: number, holds: () => boolean | Promise<boolean>): Promise<boolean> {
  const untilMs = Date.now() + withinMs;
  while (Date.now() < untilMs) {
    if (await holds()) return true;
    await sleep(250);
  }
  violations.push(`not in ${withinMs} ms: ${what}`);
  return false;
}

/** Looks at the processes every two seconds; gives what was found to be wrong when it is ended. */
function inspectForever(units: readonly Unit[]): () => Promise<readonly string[]> {
  let stopping = false;
  const found = new Set<string>();
  const looking = (async () => {
    while (!stopping) {
      for (const unit of units) for (const zombie of await unit.inspect()) found.add(`zombie: ${zombie}`);
      await sleep(2000);
    }
  })();
  return async () => {
    stopping = true;
    await looking;
    return [...found];
  };
}

function gather(units: readonly Unit[], { looks }: Watched): Evidence {
  return {
    policy,
    schedules: schedules.map(({ name, cron }) => ({ name, slots: slotsOf(name, cron, units) })),
    looks,
    lines: lines.toSorted((a, b) => a.atMs - b.atMs),
    lives: units.flatMap(({ lives }) => lives.map(lifeEvidence)),
    troubles,
  };
}

/** Whoever waits for an hour learns now and then whether it is worth it. */
function tellNowAndThen(units: readonly Unit[], watched: Watched): NodeJS.Timeout {
  const known = new Set<string>();
  return setInterval(() => {
    const evidence = gather(units, watched);
    const [slots, kept] = [checkSlots(evidence), checkKept(evidence)];
    say(`so far: ${describeCounts(slots.counts)}; backups seen ${kept.seen}, expired ${kept.expired}`);
    for (const violation of [...slots.violations, ...kept.violations]) {
      if (!known.has(violation)) say(`so far: ${violation}`);
      known.add(violation);
    }
  }, 300_000);
}

function describeCounts(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([fate, count]) => `${fate} ${count}`)
    .join(", ");
}

/** Those between the first moment at which a daemon was ready and the last slot that was served. */
function slotsOf(name: string, cron: string, units: readonly Unit[]): readonly number[] {
  const readyMs = Math.min(...units.flatMap(({ lives }) => lives.map((life) => life.readyMs ?? Infinity)));
  const served = lines.filter(({ event, fields }) => event === "backup.committed" && fields["schedule"] === name);
  const lastMs = Math.max(...served.map(({ fields }) => Number(fields["slotMs"])));
  const slots: number[] = [];
  for (let slotMs = slotAfter(parseCron(cron), "UTC", readyMs); slotMs !== undefined && slotMs <= lastMs;) {
    slots.push(slotMs);
    slotMs = slotAfter(parseCron(cron), "UTC", slotMs);
  }
  return slots;
}

function lifeEvidence(life: Life): Evidence["lives"][number] {
  return {
    process: processName(life),
    readyMs: life.readyMs,
    endedMs: life.endedMs ?? Infinity,
    paused: pauses.get(processName(life)) ?? [],
    killed: life.killed || life.signal !== null,
  };
}

function judge(evidence: Evidence, units: readonly Unit[], file: ReturnType<typeof readUnit>): void {
  const slots = checkSlots(evidence);
  const kept = checkKept(evidence);
  violations.push(...slots.violations, ...kept.violations);
  const all = evidence.schedules.reduce((sum, schedule) => sum + schedule.slots.length, 0);
  say(`slots ${all}: ${describeCounts(slots.counts)}`);
  say(
    `backups seen ${kept.seen}, expired ${kept.expired} (${kept.untold} by a daemon that was killed before it could say so), expiries ${kept.surveys}`,
  );
  if (kept.expired === 0) violations.push("nothing expired, so nothing is shown of retention");
  const count = (event: string): number => evidence.lines.filter((line) => line.event === event).length;
  const events = [
    "backup.started",
    "backup.superseded",
    "backup.failed",
    "backup.proven",
    "backup.sealed",
    "schedule.missed",
    "retention.failed",
  ];
  say(events.map((event) => `${event} ${count(event)}`).join(", "));
  const failures = Map.groupBy(
    evidence.lines.filter(({ event }) => event === "backup.failed"),
    ({ fields }) => `${String(fields["phase"])} ${String(fields["code"])}`,
  );
  for (const [what, failed] of failures) say(`failed in ${what}: ${failed.length}`);
  for (const unit of units) {
    const peak = Math.max(...unit.lives.map(({ peakBytes }) => peakBytes));
    const files = Math.max(...unit.lives.map(({ mostFiles }) => mostFiles));
    say(
      `${unit.name}: ${unit.lives.length} processes, ${describeEnds(unit.lives)}, at most ${Math.round(peak / 1e6)} MB and ${files} open files`,
    );
    // MemoryMax= of the unit.
    if (peak > 1024 ** 3) violations.push(`${unit.name} had ${peak} bytes of memory, and the unit allows 1 GiB`);
    for (const life of unit.lives) {
      const by = `${processName(life)} ended with ${life.signal ?? life.status}`;
      if (life.asked === "stop" && life.status !== 0 && !life.killed) violations.push(`${by} when it was stopped`);
      if (life.asked === "start-timeout") violations.push(`${by}: it was not ready in time`);
      if (life.asked === "watchdog" && !isLongPaused(life, file.watchdogMs))
        violations.push(`${by}: its watchdog heard nothing of it`);
      if (life.asked === undefined && !life.killed) violations.push(`${by}, and nobody wanted that`);
    }
    if (unit.state() === "failed") violations.push(`${unit.name} was started so often that systemd gave it up`);
  }
}

function isLongPaused(life: Life, watchdogMs: number): boolean {
  return (pauses.get(processName(life)) ?? []).some(({ fromMs, toMs }) => toMs - fromMs > watchdogMs / 2);
}

function describeEnds(lives: readonly Life[]): string {
  const ends = lives.map(({ asked, killed }) => asked ?? (killed ? "killed" : "by itself"));
  return [...Map.groupBy(ends, (end) => end)].map(([end, same]) => `${end} ${same.length}`).join(", ");
}

/** A daemon that was stopped leaves the cache of its catalog, and nothing else. */
async function checkSpools(): Promise<void> {
  for (const name of ["cp1", "cp2", "cp3"]) {
    const left = (await readdir(join(root, `${name}.spool`))).filter((entry) => entry !== "catalog");
    if (left.length > 0) violations.push(`${name} left in its spool: ${left.join(", ")}`);
  }
}

/** With all daemons stopped: every listed backup verifies, data is there for each, and an expiry by hand leaves what has to stay. */
async function checkRepository(
  repository: string,
  config: string,
  env: Readonly<Record<string, string>>,
  { lines: told }: Evidence,
): Promise<void> {
  const ran = commandWith(config, env);
  const { look } = openLooks(repository);
  const before = await look();
  const ok = await verifiedBy(ran);
  if (ok !== before.backups.size) violations.push(`${ok} of ${before.backups.size} backups verify`);
  const expire = await ran("expire", "--yes", "--json");
  if (expire.status !== 0) violations.push(`expire ended with ${expire.status}: ${expire.stderr}`);
  const after = await look();
  violations.push(...checkExpiry(policy, before, after));
  const list = await ran("list", "--json");
  const listed = (list.status === 0 ? JSON.parse(list.stdout) : { backups: [] }) as { backups: readonly unknown[] };
  if (list.status !== 0) violations.push(`list ended with ${list.status}: ${list.stderr}`);
  if (listed.backups.length !== after.backups.size)
    violations.push(`${listed.backups.length} backups are listed, and ${after.backups.size} are there`);
  say(`listed ${before.backups.size}, of them verified deeply ${ok}; after an expiry by hand ${after.backups.size}`);
  const { units, given } = await readUnits(repository);
  const named = new Set([...after.backups.values()].map(({ snapshot }) => snapshot));
  const orphans = [...units.keys()].filter((snapshot) => !named.has(snapshot) && !given.has(snapshot));
  for (const snapshot of named)
    if (!units.has(snapshot)) violations.push(`snapshot ${snapshot} has a manifest and no data`);
  // What a run left that was killed, failed or came second; retention gives it up after a week.
  const unfinished =
    told.filter(({ event }) => event === "backup.started").length -
    told.filter(({ event }) => event === "backup.committed").length;
  say(
    `data of ${units.size} snapshots: ${named.size} named, ${[...given].filter((snapshot) => units.has(snapshot)).length} given up, ${orphans.length} of runs that did not commit`,
  );
  if (orphans.length > unfinished)
    violations.push(`${orphans.length} snapshots belong to nothing, and only ${unfinished} runs did not commit`);
}

/** Brought up to date by hand, the copy has every backup of the first store, and what it has verifies by its own bytes. */
async function checkCopied(
  repository: string,
  copied: string,
  config: string,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const ran = commandWith(config, env);
  const { look } = openLooks(copied);
  const before = await look();
  const copy = await ran("copy", "--json");
  if (copy.status !== 0) violations.push(`copy ended with ${copy.status}: ${copy.stderr}`);
  const [first, after] = [await openLooks(repository).look(), await look()];
  for (const key of first.backups.keys()) if (!after.backups.has(key)) violations.push(`${key} is not in the copy`);
  const ok = await verifiedBy(ran, "--store", "copy");
  if (ok !== after.backups.size) violations.push(`${ok} of ${after.backups.size} backups verify in the copy`);
  const events = ["copy.stored", "copy.failed", "copy.expired"].map(
    (event) => `${event} ${lines.filter((line) => line.event === event).length}`,
  );
  say(
    `${events.join(", ")}; in the copy ${before.backups.size}, by hand ${after.backups.size}, of them verified deeply ${ok}`,
  );
}

type Ran = (...args: readonly string[]) => Promise<Ended>;

function commandWith(config: string, env: Readonly<Record<string, string>>): Ran {
  return async (...args) => await startCommand([...args, "--config", config], { env, unbounded: true }).ended;
}

/** How many backups verify deeply; the others are violations. */
async function verifiedBy(ran: Ran, ...options: readonly string[]): Promise<number> {
  const verify = await ran("verify", "--level", "deep", "--json", ...options);
  if (verify.status !== 0) violations.push(`verify ended with ${verify.status}: ${verify.stderr}`);
  const { results } = (verify.stdout === "" ? { results: [] } : JSON.parse(verify.stdout)) as {
    results: readonly { readonly ok: boolean }[];
  };
  return results.filter((result) => result.ok).length;
}
