import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failpoints } from "../../src/failpoints.ts";
import { startCluster, type TestCluster } from "../cluster/harness.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { mulberry32 } from "../bench/generate.ts";
import { startCommand, type Ended } from "../cluster/command.ts";

/**
 * SIGKILL at every named place of a backup's path and at random instants: whatever is listed afterwards verifies, and the next backup works.
 * LIFEBOAT_CRASHES sets the number of random instants per store, LIFEBOAT_SEED repeats a run.
 */

const rounds = Number(process.env["LIFEBOAT_CRASHES"] ?? 20);
const seed = Number(process.env["LIFEBOAT_SEED"] ?? Date.now() % 2 ** 31);

let cluster: TestCluster;
let s3: TestS3;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "lifeboat-crash-"));
  cluster = await startCluster({ minor: "3.6", members: 1 });
  await cluster.fill({ keys: 3000, valueBytes: 8000, seed });
  s3 = await startS3();
  await s3.createBucket("crash");
});

afterAll(async () => {
  await s3[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

interface Place {
  readonly config: string;
  readonly spool: string;
  readonly env: Record<string, string>;
}

let places = 0;

async function preparePlace(kind: "directory" | "s3"): Promise<Place> {
  const name = `place-${(places += 1)}`; // a test's second try begins with nothing, too
  const root = join(directory, name);
  const spool = join(root, "spool");
  const store = join(root, "store");
  const extra = join(root, "extra.txt");
  await mkdir(store, { recursive: true });
  await writeFile(extra, "an extra file\n");
  const storeConfig =
    kind === "directory"
      ? { directory: store }
      : { s3: { bucket: "crash", prefix: name, endpoint: s3.url, region: s3.region, pathStyle: true } };
  const config = join(root, "config.yaml");
  // JSON is YAML. The recipient's identity is thrown away: nothing here needs it, the read-back uses the key in memory.
  await writeFile(
    config,
    JSON.stringify({
      cluster: { name: "crash", endpoints: cluster.endpoints },
      repository: { store: storeConfig, encryption: { recipients: [recipient] }, extras: [extra] },
      spool: { directory: spool },
    }),
  );
  return { config, spool, env: { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey } };
}

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

function run(place: Place, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return startCommand(args, { env: { ...place.env, ...env } }).ended;
}

interface Listed {
  readonly backups: readonly { readonly lineage: string; readonly backup: string; readonly label: string | null }[];
  readonly refused: readonly unknown[];
}

async function list(place: Place): Promise<Listed> {
  const ended = await run(place, ["list", "--json", "--config", place.config]);
  expect([0, 10], ended.stderr).toContain(ended.status);
  return JSON.parse(ended.stdout) as Listed;
}

/** Every listed backup verifies byte by byte; returns how many there are. */
async function expectAllVerify(place: Place): Promise<number> {
  const { backups, refused } = await list(place);
  expect(refused).toEqual([]);
  if (backups.length === 0) return 0;
  const ended = await run(place, ["verify", "--level", "bytes", "--json", "--config", place.config]);
  expect(ended.status, ended.stdout).toBe(0);
  return backups.length;
}

describe.each(["directory", "s3"] as const)("with the %s store", (kind) => {
  test.each(failpoints)(
    "a run killed at %s leaves nothing listed that does not verify, and the next run commits",
    async (name) => {
      const place = await preparePlace(kind);
      const killed = await run(place, ["backup", "--config", place.config], {
        LIFEBOAT_FAILPOINTS: "on",
        LIFEBOAT_FAILPOINT: name,
      });
      expect(killed.signal, `the failpoint did not fire: ${killed.stderr}`).toBe("SIGKILL");
      const left = await expectAllVerify(place);
      expect(left).toBe(name === "manifest-stored" ? 1 : 0);
      const next = await run(place, ["backup", "--config", place.config]);
      expect(next.status, next.stderr).toBe(0);
      expect(await expectAllVerify(place)).toBe(left + 1);
      expect((await readdir(place.spool)).filter((name) => name !== "catalog")).toEqual([]); // what `list` remembers
    },
  );

  test(
    `runs killed at ${rounds} random instants leave nothing listed that does not verify`,
    async () => {
      const place = await preparePlace(kind);
      const random = mulberry32(seed);
      const wholeMs = await measure(async () => {
        await run(place, ["backup", "--label", "whole", "--config", place.config]);
      });
      let killed = 0;
      let finished = 0;
      for (let round = 0; round < rounds; round += 1) {
        const started = startCommand(["backup", "--label", `round-${round}`, "--config", place.config], {
          env: place.env,
        });
        // The first part of a run is Node's own start, where there is nothing to break.
        await sleep(wholeMs * (0.25 + 0.85 * random()));
        started.child.kill("SIGKILL");
        const ended = await started.ended;
        if (ended.signal === "SIGKILL") killed += 1;
        else {
          finished += 1;
          expect(ended.status, ended.stderr).toBe(0);
        }
      }
      const { backups } = await list(place);
      const told = backups.filter(({ label }) => label?.startsWith("round-") === true).length;
      const verified = await expectAllVerify(place);
      console.log(
        `${kind}: seed ${seed}, ${rounds} runs, ${killed} killed, ${finished} finished, ${told} of them listed, ${verified} verified`,
      );
      expect(killed).toBeGreaterThan(0);
      // A run that said it was done is listed; one that was killed right after its commit is listed too.
      expect(told).toBeGreaterThanOrEqual(finished);
      await lifeboatEnds(place);
      expect((await readdir(place.spool)).filter((name) => name !== "catalog")).toEqual([]); // what `list` remembers
    },
    60_000 + rounds * 15_000,
  );
});

async function lifeboatEnds(place: Place): Promise<void> {
  const ended = await run(place, ["backup", "--config", place.config]);
  expect(ended.status, ended.stderr).toBe(0);
}

async function measure(work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}
