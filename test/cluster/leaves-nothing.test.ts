import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { discardDirectory, makeDirectory, settleDirectories } from "./directories.ts";
import { startCluster } from "./harness.ts";
import { releasePorts, reservePorts } from "./ports.ts";
import { runProgram } from "./processes.ts";
import { createAuthority } from "./tls.ts";

let directory: string;
beforeAll(async () => {
  directory = await makeDirectory("harness");
});
afterAll(async () => await discardDirectory(directory));

it("kills the servers when the process that started them is killed, and the next one clears their directories away", async () => {
  const script = `
    import { startCluster } from ${JSON.stringify(`${import.meta.dirname}/harness.ts`)};
    import { startS3 } from ${JSON.stringify(`${import.meta.dirname}/s3.ts`)};
    const [cluster, s3] = await Promise.all([startCluster({ members: 3 }), startS3()]);
    console.log(JSON.stringify({ pids: [...cluster.members, s3].map(({ pid }) => pid), directories: [cluster.directory, s3.directory] }));
    setInterval(() => undefined, 1000);`;
  const worker = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(worker, "exit");
  const lines = createInterface(worker.stdout)[Symbol.asyncIterator]();
  const { pids, directories } = JSON.parse(String((await lines.next()).value)) as {
    readonly pids: readonly number[];
    readonly directories: readonly string[];
  };
  expect(pids.map(isAlive)).toEqual([true, true, true, true]);
  worker.kill("SIGKILL");
  await ended;
  await vi.waitFor(() => expect(pids.filter(isAlive)).toEqual([]), 60_000);
  await inOtherProcess(`
    import { makeDirectory } from ${JSON.stringify(`${import.meta.dirname}/directories.ts`)};
    const { rmdirSync } = await import("node:fs");
    rmdirSync(await makeDirectory("sweep"));`);
  expect(directories.filter((left) => existsSync(left))).toEqual([]);
});

it("removes a directory unless its test failed, and then says where it is", async () => {
  const cluster = await startCluster();
  await cluster[Symbol.asyncDispose]();
  expect(existsSync(cluster.directory), "until it is known how the test ends").toBe(true);
  const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  await settleDirectories({ failed: true });
  expect(said).toHaveBeenCalledWith(`kept: ${cluster.directory}\n`);
  said.mockRestore();
  expect(await readFile(cluster.members[0]?.logFile ?? "", "utf8")).toContain("ready to serve client requests");
  await discardDirectory(cluster.directory);
  await settleDirectories({ failed: false });
  expect(existsSync(cluster.directory)).toBe(false);
});

it("gives no port twice, not even to another process", async () => {
  const ports = await reservePorts(200);
  const text = await inOtherProcess(`
    import { reservePorts } from ${JSON.stringify(`${import.meta.dirname}/ports.ts`)};
    console.log(JSON.stringify(await reservePorts(1500)));`);
  const theirs = new Set(JSON.parse(text) as readonly number[]);
  expect(theirs.size).toBe(1500);
  expect(ports.filter((port) => theirs.has(port))).toEqual([]);
  releasePorts(ports);
});

it("issues certificates that are valid, expired, for a user, or of an authority that nobody trusts", async () => {
  const authority = await createAuthority(`${directory}/ours`);
  const stranger = await createAuthority(`${directory}/theirs`);
  await using cluster = await startCluster({ tls: true });
  const trusted = cluster.tls?.authority;
  const expired = await trusted?.issue({ commonName: "late", usage: "client", expired: true });
  const foreign = await stranger.issue({ commonName: "root", usage: "client" });
  const get = ["get", "nothing", "--command-timeout=2s", "--dial-timeout=2s"];
  await cluster.etcdctl(["get", "nothing"]);
  await expect(cluster.etcdctl([...get, `--cert=${expired?.cert}`, `--key=${expired?.key}`])).rejects.toThrow("failed");
  await expect(cluster.etcdctl([...get, `--cert=${foreign.cert}`, `--key=${foreign.key}`])).rejects.toThrow("failed");
  await expect(cluster.etcdctl([...get, `--cacert=${authority.ca}`])).rejects.toThrow(/certificate|deadline/);
  const log = await readFile(cluster.members[0]?.logFile ?? "", "utf8");
  expect(log).toMatch(/certificate has expired/);
  expect(log).toMatch(/unknown authority|verification error/);
});

it("fills a cluster with many thousands of keys", async () => {
  await using cluster = await startCluster();
  await cluster.fill({ keys: 20_000, valueBytes: 500, prefix: "many/" });
  expect(await cluster.etcdctl(["get", "--prefix", "many/", "--count-only", "--write-out=fields"])).toContain(
    '"Count" : 20000',
  );
});

async function inOtherProcess(script: string): Promise<string> {
  return await runProgram(process.execPath, ["--input-type=module", "-e", script]);
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}
