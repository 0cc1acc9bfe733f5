import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { LogLine } from "../cluster/daemon.ts";
import { startCommand } from "../cluster/command.ts";
import { startCluster, type TestCluster } from "../cluster/harness.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { startTcpProxy, type TcpProxy } from "../cluster/tcp-proxy.ts";
import { startFaultProxy, type FaultProxy } from "../store/fault-proxy.ts";
import { accountForSlots } from "./account.ts";
import { disturb, openChance, type Chance, type Disturbance } from "./chaos.ts";
import { openSoakDaemon, type SoakDaemon } from "./daemon-process.ts";
import { findRepeatedWork } from "./repeated.ts";

/**
 * Several daemons with one configuration against one etcd and one S3 server, with a slot every two seconds, while they are stopped, continued and
 * killed, their clocks differ, the store answers late or twice, and each of them loses the store or etcd for a while. Afterwards every slot was committed once or
 * is told as failed or missed; none twice; and work that was done twice is counted with its cause.
 *
 *   npm run soak:daemons                            2000 slots
 *   npm run soak:daemons -- --slots 100 --seed 7
 */

const flag = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
};
const slotsWanted = Number(flag("--slots", "2000"));
const count = Number(flag("--daemons", "3"));
const everySeconds = Number(flag("--every", "2"));
const seed = Number(flag("--seed", String(Math.floor(Date.now() / 1000) % 100_000)));
const runs = flag("--write", "");
const repository = fileURLToPath(new URL("../..", import.meta.url));
const schedule = "often";
const credentials = { AWS_ACCESS_KEY_ID: "AKLIFEBOAT", AWS_SECRET_ACCESS_KEY: "secret-of-the-test" };

interface Node {
  readonly daemon: SoakDaemon;
  readonly toStore: TcpProxy;
  readonly toEtcd: TcpProxy;
}

const began = performance.now();
const said: string[] = [];
const chance = openChance(seed);
const root = await mkdtemp(join(tmpdir(), "lifeboat-soak-"));
let well = false;
try {
  await soak();
  well = true;
} finally {
  if (well) await rm(root, { recursive: true, force: true });
  else console.error(`kept: ${root}`);
}

function say(text: string): void {
  const line = `${new Date().toISOString()} ${text}`;
  said.push(line);
  console.log(line);
}

async function soak(): Promise<void> {
  say(`seed ${seed}, ${slotsWanted} slots, one every ${everySeconds} s, ${count} daemons`);
  await using cluster = await startCluster();
  await cluster.fill({ keys: 200, valueBytes: 200 });
  await using s3 = await startS3({
    accessKey: credentials.AWS_ACCESS_KEY_ID,
    secretKey: credentials.AWS_SECRET_ACCESS_KEY,
  });
  await s3.createBucket("soak");
  await using faults = await startFaultProxy(s3.url);
  await using stack = new AsyncDisposableStack();
  const nodes: Node[] = [];
  for (let number = 1; number <= count; number += 1) nodes.push(await openNode(stack, number, cluster, s3, faults));
  stack.use(startWriter(cluster));
  // In an empty repository each daemon begins with the slot it finds, and nothing before it is missed: one begins, the others join.
  const [first, ...others] = nodes;
  const begun = first?.daemon.next("backup.committed", undefined, 300_000);
  await first?.daemon.start(clockOf(chance));
  await begun;
  for (const { daemon } of others) await daemon.start(clockOf(chance));
  const endMs = performance.now() + slotsWanted * everySeconds * 1000;
  const { counts } = await disturb(chance, disturbances(nodes, s3, faults), {
    pauseMs: [0, 2000 * everySeconds],
    calm: async () => await servedMore(nodes, 2),
    going: () => performance.now() < endMs,
    say,
  });
  await servedMore(nodes, 1);
  for (const { daemon } of nodes) {
    const end = await daemon.stop();
    if (end !== 0) throw new Error(`${daemon.name} ended with ${end} after SIGTERM`);
  }
  const lines = await Promise.all(nodes.map(async ({ daemon }) => await daemon.lines()));
  await check(lines, [...counts].map(([name, times]) => `${name} ${times}`).join(", "));
}

/** All is well again: somebody serves so many of the next slots. */
async function servedMore(nodes: readonly Node[], slots: number): Promise<void> {
  const linesNow = async (): Promise<readonly (readonly LogLine[])[]> =>
    await Promise.all(nodes.map(async ({ daemon }) => await daemon.lines()));
  const seen = (await linesNow()).map(({ length }) => length);
  const served = async (): Promise<number> => {
    const since = (await linesNow()).flatMap((lines, index) => lines.slice(seen[index]));
    return since.filter(({ event }) => event === "backup.committed").length;
  };
  const untilMs = performance.now() + 300_000;
  while ((await served()) < slots) {
    if (performance.now() > untilMs) throw new Error(`not ${slots} backups after all was well again`);
    await sleep(200);
  }
}

async function openNode(
  stack: AsyncDisposableStack,
  number: number,
  cluster: TestCluster,
  s3: TestS3,
  faults: FaultProxy,
): Promise<Node> {
  const toStore = stack.use(await startTcpProxy(faults.endpoint));
  const toEtcd = stack.use(await startTcpProxy(...cluster.endpoints));
  const name = `node${number}`;
  const home = join(root, name);
  await mkdir(home);
  const config = configOf(number);
  const etcd = `http://127.0.0.1:${toEtcd.port}`;
  await writeFile(
    config,
    JSON.stringify({
      // Members are asked where they say they are; here that is behind the proxy, too.
      cluster: { name: "soak", endpoints: [etcd], members: { etcd1: { url: etcd } } },
      repository: {
        store: {
          s3: {
            bucket: "soak",
            prefix: "prod",
            endpoint: `http://127.0.0.1:${toStore.port}`,
            region: s3.region,
            pathStyle: true,
          },
        },
      },
      spool: { directory: join(home, "spool") },
      schedules: [{ name: schedule, cron: `*/${everySeconds} * * * * *` }],
      http: { listen: "127.0.0.1:0" },
    }),
  );
  const daemon = stack.use(openSoakDaemon({ name, config, env: credentials, logFile: join(root, `${name}.log`) }));
  return { daemon, toStore, toEtcd };
}

function configOf(number: number): string {
  return join(root, `node${number}`, "config.yaml");
}

/** Each life of a daemon has a clock of its own: mostly a little off, sometimes a lot. */
function clockOf(drawn: Chance): Readonly<Record<string, string>> {
  const most = drawn.pick([0, 500, 3000, 20_000]);
  return { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_CLOCK_OFFSET_MS: String(Math.round(drawn.between(-most, most))) };
}

/** The cluster is never at rest. */
function startWriter(cluster: TestCluster): AsyncDisposable {
  const stop = new AbortController();
  const writing = (async () => {
    for (let n = 0; !stop.signal.aborted; n += 1) {
      await cluster.put(`soak/${n % 50}`, `value ${n}`);
      await sleep(1000);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await writing;
    },
  };
}

function disturbances(nodes: readonly Node[], s3: TestS3, faults: FaultProxy): readonly Disturbance[] {
  const one = (drawn: Chance): Node => drawn.pick(nodes);
  const forMs = (drawn: Chance, most: number): number => Math.round(drawn.between(500, most));
  return [
    {
      name: "stopped and continued",
      weight: 4,
      draw(drawn) {
        const [{ daemon }, ms] = [one(drawn), forMs(drawn, 9000)];
        return async () => {
          daemon.pause();
          await sleep(ms);
          daemon.resume();
          return `${daemon.name} for ${ms} ms`;
        };
      },
    },
    {
      name: "killed",
      weight: 4,
      draw(drawn) {
        const [{ daemon }, ms, clock] = [one(drawn), forMs(drawn, 3000), clockOf(drawn)];
        return async () => {
          await daemon.kill();
          await sleep(ms);
          await daemon.start(clock);
          return `${daemon.name}, its clock off by ${clock["LIFEBOAT_CLOCK_OFFSET_MS"]} ms from now on`;
        };
      },
    },
    {
      name: "terminated",
      weight: 1,
      draw(drawn) {
        const [{ daemon }, clock] = [one(drawn), clockOf(drawn)];
        return async () => {
          const end = await daemon.stop();
          if (end !== 0) throw new Error(`${daemon.name} ended with ${end} after SIGTERM`);
          await daemon.start(clock);
          return `${daemon.name}, its clock off by ${clock["LIFEBOAT_CLOCK_OFFSET_MS"]} ms from now on`;
        };
      },
    },
    {
      name: "parted",
      weight: 4,
      draw(drawn) {
        const node = one(drawn);
        const [link, what] = drawn.pick([
          [node.toStore, "the store"],
          [node.toEtcd, "etcd"],
        ] as const);
        const [silent, ms] = [drawn.pick([true, false]), forMs(drawn, 8000)];
        return async () => {
          const { targets } = link;
          if (silent) link.silent = true;
          else {
            link.targets = [];
            link.cut();
          }
          await sleep(ms);
          link.targets = targets;
          link.silent = false;
          return `${node.daemon.name} from ${what} for ${ms} ms${silent ? ", in silence" : ""}`;
        };
      },
    },
    {
      name: "late answers",
      weight: 2,
      draw(drawn) {
        const [times, ms] = [Math.round(drawn.between(1, 6)), forMs(drawn, 4000)];
        const method = drawn.pick(["PUT", "GET", "HEAD"]);
        return async () => {
          const path = /\/soak\//;
          faults.add({ method, path, times, mischief: { kind: "delay", ms } });
          await sleep(ms);
          return `${times} by ${ms} ms`;
        };
      },
    },
    {
      name: "lost answers",
      weight: 3,
      draw(drawn) {
        const times = Math.round(drawn.between(1, 3));
        const path = drawn.pick([/\/backups\//, /\/claims\//, /\/snapshots\//, /\/soak\//]);
        return async () => {
          const fired = faults.add({ method: "PUT", path, times, mischief: { kind: "drop-reply" } });
          await sleep(2000);
          return `${fired()} of ${times} for ${String(path)}, and done twice where it was asked again`;
        };
      },
    },
    {
      name: "store stopped",
      weight: 1,
      draw(drawn) {
        const ms = forMs(drawn, 5000);
        return async () => {
          s3.pause();
          await sleep(ms);
          s3.resume();
          return `for ${ms} ms`;
        };
      },
    },
  ];
}

/** Ends with an error when anything is not as it should be. */
async function check(daemons: readonly (readonly LogLine[])[], disturbed: string): Promise<void> {
  const lines = daemons.flat();
  const work = findRepeatedWork(daemons);
  const listing = await ran(["list", "--json", "--config", configOf(1)]);
  const listed = JSON.parse(listing) as {
    readonly backups: readonly { readonly backup: string }[];
    readonly refused: readonly unknown[];
  };
  if (listed.refused.length > 0) throw new Error(`refused: ${JSON.stringify(listed.refused)}`);
  const names = listed.backups.map(({ backup }) => backup);
  const times = names.map((name) => Date.parse(name.replace(/^(....)(..)(..)T(..)(..)(..)Z.*$/, "$1-$2-$3T$4:$5:$6Z")));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const stepMs = everySeconds * 1000;
  const slots = Array.from({ length: (last - first) / stepMs + 1 }, (_, index) => first + index * stepMs);
  const account = accountForSlots({ schedule, slots, listed: names, lines });
  const verified = JSON.parse(await ran(["verify", "--level", "bytes", "--json", "--config", configOf(1)])) as {
    readonly results: readonly { readonly ok: boolean }[];
  };
  const damaged = verified.results.filter(({ ok }) => !ok).length;
  const { lost, twice, vanished, ...counts } = account;
  say(`disturbed: ${disturbed}`);
  say(
    Object.entries({ ...counts, lost: lost.length, twice: twice.length, vanished: vanished.length, damaged })
      .map(([name, value]) => `${name} ${value}`)
      .join(", "),
  );
  const causes = Object.entries(work.repeated).map(([cause, times]) => `${cause} ${times}`);
  say(`drains ${work.drains}, of them beside a committed one: ${causes.join(", ")}`);
  const strange = lines.filter(({ event }) => event === "not a line of the log");
  const repeated = work.unexplained.map((slot) => `${slot} was done twice without a cause`);
  const wrong = [...lost, ...twice, ...vanished, ...repeated, ...strange.map(({ text }) => String(text))];
  if (damaged > 0 || wrong.length > 0) throw new Error(`not as it should be: ${wrong.slice(0, 20).join("\n")}`);
  // What is told as missed is accounted for; where most of it is, nothing is shown of claims.
  if (3 * account.committed < account.slots)
    throw new Error(`${account.committed} of ${account.slots} slots committed`);
  if (verified.results.length !== names.length) throw new Error("not every backup was verified");
  say(`every slot is accounted for, after ${Math.round((performance.now() - began) / 60_000)} minutes`);
  if (runs !== "") await writeFile(join(repository, "docs/runs", runs), `${said.join("\n")}\n`);
}

/** Runs a command as an operator would, past every proxy's trouble: all is well again by now. */
async function ran(args: readonly string[]): Promise<string> {
  const ended = await startCommand(args, { env: credentials, unbounded: true }).ended;
  if (ended.status === 0) return ended.stdout;
  throw new Error(`${args.join(" ")} ended with ${ended.status ?? ended.signal}: ${ended.stdout}${ended.stderr}`);
}
