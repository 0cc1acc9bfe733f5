import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { BuiltCluster, DataDirectoryRequest } from "../../src/datadir/datadir.ts";
import { hexId } from "../../src/datadir/identity.ts";
import { lifeboatBuilder } from "../../src/datadir/lifeboat.ts";
import { readWal, walFilesIn } from "../../src/datadir/read-wal.ts";
import { fixtureBytes, golden } from "../bolt/fixtures/golden.ts";
import { patiently } from "./cluster.ts";
import { startLaidCluster, type ClusterOptions, type Minor, type TestCluster, type TestMember } from "./harness.ts";
import { layMember } from "./lay.ts";
import { createMember } from "./member.ts";
import { minors } from "./servers.ts";

/** The fixtures of test/bolt have history, leases, users with authentication on, a NOSPACE alarm, and members that are gone. */
const auth = { rootPassword: "secret" };
const never = new AbortController().signal;
const bump = 1_000_000_000n;

const periodicChecks = ["--corrupt-check-time=1s", "--compact-hash-check-time=1s"];
const checksOf: Readonly<Record<Minor, readonly string[]>> = {
  "3.3": [],
  "3.4": ["--experimental-initial-corrupt-check", "--experimental-corrupt-check-time=1s"],
  "3.5": [
    "--experimental-initial-corrupt-check",
    "--experimental-corrupt-check-time=1s",
    "--experimental-compact-hash-check-enabled",
    "--experimental-compact-hash-check-time=1s",
  ],
  "3.6": ["--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true", ...periodicChecks],
  "3.7": ["--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true", ...periodicChecks],
};

describe.each(minors)("a data directory that was built for etcd %s", (minor) => {
  test("starts three members with auth, leases and a bump, which restart, change members and pass etcd's own checks", async () => {
    const { cluster, built } = await startBuilt({ minor, members: 3, auth, flags: checksOf[minor] }, { bump });
    await using running = cluster;
    const before = golden(minor);
    expect(built.revision).toBe(BigInt(before.revision) + bump);
    expect(built.alarmsRemoved).toHaveLength(1);

    expect(await hashes(running)).toEqual(Array.from({ length: 3 }, () => expectedHash(built)));
    expect(await memberIds(running)).toEqual(built.members.map(({ memberId }) => hexId(memberId)).toSorted());
    expect(await running.etcdctl(["alarm", "list"])).toBe("");
    expect((await running.etcdctl(["lease", "list"])).trim().split("\n")).toHaveLength(before.leases + 1);
    const lease = /^([0-9a-f]{8,16})$/m.exec(await running.etcdctl(["lease", "list"]))?.[1] ?? "";
    expect(await running.etcdctl(["lease", "timetolive", lease, "--keys"])).toMatch(/remaining\(\d+s\)/);
    const [endpoint = ""] = running.endpoints;
    const wrong = running.etcdctl(["get", "x", "--user=root:wrong"], { endpoints: [endpoint] });
    await expect(wrong).rejects.toThrow("authentication failed");
    // What was read before must not be believed any more.
    const old = running.etcdctl(["get", "x", `--rev=${built.revision - 1n}`]);
    await expect(old).rejects.toThrow("required revision has been compacted");

    await running.put("/after", "restore");
    expect(await running.revision()).toBe(built.revision + 1n);
    const [first, second, third] = running.members as readonly [TestMember, TestMember, TestMember];
    await first.stop("SIGTERM");
    await first.start();
    await second.stop("SIGKILL");
    await second.start();
    await running.put("/after", "restarts");
    await running.etcdctl(["compact", String(await running.revision())]);

    // 3.3 answers nobody on a member that was added with authentication on until that is restarted, whoever restored.
    if (minor === "3.3") await running.etcdctl(["auth", "disable"]);
    const added = await running.addMember();
    const listed = await memberLines(running);
    expect(listed).toHaveLength(4);
    const thirdId =
      listed
        .find((line) => line.includes(third.peerUrl))
        ?.split(",", 1)
        .join() ?? "";
    await running.etcdctl(["member", "remove", thirdId], { endpoints: [first.clientUrl] });
    await third.stop("SIGKILL");
    const left = { endpoints: [first.clientUrl, second.clientUrl, added.clientUrl] };
    await patiently(() => running.etcdctl(["put", "/after", "members"], left));
    await expect.poll(async () => distinct(await hashes(running, left.endpoints))).toHaveLength(1);
    if (minor !== "3.3") {
      // Two rounds of the checks that run every second.
      await sleep(2_500);
      expect(await running.etcdctl(["alarm", "list"], left)).toBe("");
    }

    // What the member wrote behind what we wrote is read as one WAL.
    await first.stop("SIGTERM");
    const wal = await readWal(await walFilesIn(join(first.dataDirectory, "member/wal")), never);
    expect(wal).toMatchObject({ memberId: built.members[0]?.memberId, clusterId: built.clusterId, torn: false });
    expect(wal.hardState?.commit).toBeGreaterThan(3n);
    expect(wal.lastIndex).toBeGreaterThanOrEqual(wal.hardState?.commit ?? 0n);
  });

  test("starts one member without a bump, with its WAL apart and peer URLs as they were written", async () => {
    const options = { minor, members: 1, auth, flags: ["--wal-dir=apart"] } as const;
    const urls = ["http://LOCALHOST:80", "http://[::1]:2381"];
    const { cluster, built } = await startBuilt(options, { bump: undefined }, () => urls, "apart");
    await using running = cluster;
    expect(built.revision).toBe(BigInt(golden(minor).revision));
    expect(await hashes(running)).toEqual([expectedHash(built)]);
    expect(built.hashKv.hash).toBe(golden(minor).hashKv.hash);
    const [line = ""] = await memberLines(running);
    for (const url of urls) expect(line).toContain(url);
    await running.put("/after", "restore");
    expect(await running.revision()).toBe(built.revision + 1n);
    const [member] = running.members;
    await member?.stop("SIGKILL");
    await member?.start();
    expect(await running.get("/after")).toBe("restore");
  });
});

test("a data directory that was built for etcd 3.4 is upgraded in place up to 3.7, and keeps its data", async () => {
  const { cluster, built } = await startBuilt({ minor: "3.4", auth }, { bump });
  await using running = cluster;
  const [own] = running.members as readonly [TestMember];
  await own.stop("SIGTERM");
  for (const minor of ["3.5", "3.6", "3.7"] as const) {
    const { port } = new URL(own.clientUrl);
    const plan = {
      minor,
      name: own.name,
      directory: running.directory,
      ports: [Number(port), Number(new URL(own.peerUrl).port), Number(new URL(own.metricsUrl).port)] as const,
      initialCluster: `${own.name}=${own.peerUrl}`,
      state: "existing" as const,
      learner: false,
      token: running.token,
      tls: undefined,
      flags: [],
    };
    const member = createMember(plan, async () => (await decidedVersion(own.clientUrl)) === `${minor}.0`);
    try {
      await member.start();
      const [answer] = await hashes(running);
      expect({ minor, ...answer }).toMatchObject({ minor, hash: String(built.hashKv.hash) });
    } finally {
      await member.stop("SIGTERM");
    }
  }
});

/** Builds from the minor's fixture for the members of a cluster and starts it. */
async function startBuilt(
  options: ClusterOptions & { readonly minor: Minor },
  rest: Pick<DataDirectoryRequest, "bump">,
  peerUrls = (member: TestMember): readonly string[] => [member.peerUrl],
  walDirectory?: string,
): Promise<{ readonly cluster: TestCluster; readonly built: BuiltCluster }> {
  let built: BuiltCluster | undefined;
  const cluster = await startLaidCluster(options, async ({ directory, token, members }) => {
    const work = join(directory, "work");
    await mkdir(work, { recursive: true });
    const snapshot = join(directory, "snapshot.db");
    await writeFile(snapshot, fixtureBytes(options.minor));
    const planned = members.map((member) => ({ name: member.name, peerUrls: peerUrls(member) }));
    built = await lifeboatBuilder().build(
      snapshot,
      work,
      { minor: options.minor, token, members: planned, ...rest },
      never,
    );
    for (const { name, dataDirectory } of members) {
      await layMember(built, name, dataDirectory, walDirectory && join(directory, walDirectory));
    }
  });
  if (built === undefined) throw new Error("nothing was built");
  return { cluster, built };
}

/** As `hashes` gives it, of a cluster that was built and not written to. Up to 3.4 HashKV does not say of which compaction it is when that is the revision itself. */
function expectedHash({ hashKv, clusterId }: BuiltCluster): Readonly<Record<string, string>> {
  return { hash: String(hashKv.hash), revision: String(hashKv.revision), clusterId: String(clusterId) };
}

/** What each member answers to HashKV now. */
async function hashes(
  cluster: TestCluster,
  endpoints = cluster.endpoints,
): Promise<readonly Readonly<Record<string, string>>[]> {
  return await Promise.all(
    endpoints.map(async (endpoint) => {
      const text = await cluster.etcdctl(["endpoint", "hashkv", "-w", "json"], { endpoints: [endpoint] });
      const number = (name: string): string => new RegExp(`"${name}":(\\d+)`).exec(text)?.[1] ?? "";
      return { hash: number("hash"), revision: number("revision"), clusterId: number("cluster_id") };
    }),
  );
}

function distinct(answers: readonly Readonly<Record<string, string>>[]): readonly string[] {
  return [...new Set(answers.map((answer) => JSON.stringify(answer)))];
}

async function memberLines(cluster: TestCluster): Promise<readonly string[]> {
  return (await cluster.etcdctl(["member", "list"])).trim().split("\n");
}

async function memberIds(cluster: TestCluster): Promise<readonly string[]> {
  return (await memberLines(cluster)).map((line) => line.split(",", 1).join()).toSorted();
}

async function decidedVersion(endpoint: string): Promise<unknown> {
  const asked = fetch(new URL("/version", endpoint), { signal: AbortSignal.timeout(10_000) });
  return await asked.then(
    async (response) => ((await response.json()) as { readonly etcdcluster?: unknown }).etcdcluster,
    () => undefined,
  );
}
