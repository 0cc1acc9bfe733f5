import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startCluster, type TestCluster } from "./harness.ts";
import { startS3 } from "./s3.ts";

/** The release as a host sees it: one file in a directory with nothing else, and no packages anywhere above. */

const root = fileURLToPath(new URL("../..", import.meta.url));
let directory: string;
let bundle: string;

beforeAll(async () => {
  const built = await run(process.execPath, [join(root, "scripts/build.ts")]);
  expect(built).toMatchObject({ status: 0, stderr: "" });
  directory = await mkdtemp(join(tmpdir(), "lifeboat-bundle-"));
  bundle = join(directory, "etcd-lifeboat");
  await copyFile(join(root, "dist/etcd-lifeboat.cjs"), bundle);
  for (let above = directory; above !== dirname(above); above = dirname(above)) {
    expect(existsSync(join(above, "node_modules")), `${above} has a node_modules`).toBe(false);
  }
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(program: string, args: readonly string[]): Promise<Ended> {
  const child = spawn(program, args, {
    cwd: "/",
    env: { PATH: process.env["PATH"] },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [status] = (await once(child, "close")) as [number | null];
  return { status, stdout, stderr };
}

const lifeboat = (...args: readonly string[]): Promise<Ended> => run(process.execPath, [bundle, ...args]);
/** The same from the sources. */
const source = (...args: readonly string[]): Promise<Ended> =>
  run(process.execPath, [join(root, "src/etcd-lifeboat.cjs"), ...args]);

describe("the bundle alone", () => {
  test.each([
    [["--version"]],
    [["--help"]],
    [["backup", "--help"]],
    [["config", "schema"]],
    [["exit-statuses", "--json"]],
  ])("says the same as the sources: %j", async (args) => {
    const said = await lifeboat(...args);
    expect(said).toMatchObject({ status: 0, stderr: "" });
    expect(said).toEqual(await source(...args));
  });

  test("starts by itself, where the node on the PATH is new enough", async () => {
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
    expect(await run(bundle, ["--version"])).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
  });

  test("under every older node of this host it says in one line what it needs", async () => {
    const old = await olderNodes();
    for (const [node, version] of old) {
      for (const entry of [bundle, join(root, "src/etcd-lifeboat.cjs")]) {
        const said = await run(node, [entry, "backup"]);
        expect(said, `${node} ${entry}`).toMatchObject({ status: 78, stdout: "" });
        expect(said.stderr).toMatch(/^etcd-lifeboat needs Node 24 or newer, this is v[^\n]+\n$/);
        expect(said.stderr).toContain(version);
      }
    }
    // On a host without an older one, test/entry.test.ts still holds the line.
  });

  test("takes, lists and verifies backups of a real etcd with authentication on, in a directory and in S3", async () => {
    await using cluster = await startCluster({ members: 1, auth: { rootPassword: "s3cret" } });
    await cluster.put("greeting", "hello");
    await writeFile(join(directory, "password"), "s3cret\n", { mode: 0o600 });
    await mkdir(join(directory, "store"));
    await using gateway = await startS3();
    await gateway.createBucket("bundled");
    await writeFile(
      join(directory, "s3"),
      `[default]\naws_access_key_id = ${gateway.accessKey}\naws_secret_access_key = ${gateway.secretKey}\n`,
      { mode: 0o600 },
    );
    const s3 = {
      bucket: "bundled",
      endpoint: gateway.url,
      region: gateway.region,
      pathStyle: true,
      credentials: { file: join(directory, "s3") },
    };
    await backUp(cluster, { directory: join(directory, "store") });
    await backUp(cluster, { s3 });
  });
});

async function backUp(cluster: TestCluster, store: object): Promise<void> {
  const config = join(directory, "config.yaml");
  const password = { file: join(directory, "password") };
  await writeFile(
    config,
    JSON.stringify({
      cluster: { name: "bundled", endpoints: cluster.endpoints, auth: { username: "root", password } },
      repository: { store },
      spool: { directory: join(directory, "spool") },
    }),
  );
  const at = ["--config", config, "--json"];
  const taken = await lifeboat("backup", ...at);
  expect(taken, taken.stderr).toMatchObject({ status: 0 });
  const { backups } = await json<{ backups: readonly { backup: string; revision: string; keys: number }[] }>(
    "list",
    ...at,
  );
  // The facts come from a worker thread, which is started from the same file.
  expect(backups).toMatchObject([{ revision: String(await cluster.revision()), keys: 1 }]);
  const verified = await lifeboat("verify", backups[0]?.backup ?? "", "--level", "structure", ...at);
  expect(verified, verified.stderr).toMatchObject({ status: 0 });
  const status = await json<{ etcd: { clusterId: string } }>("status", ...at);
  // An ID of 64 bits comes through the embedded protocol file whole.
  const [, clusterId = ""] = /"cluster_id":(\d+)/.exec(await cluster.etcdctl(["member", "list", "-w", "json"])) ?? [];
  expect(BigInt(`0x${status.etcd.clusterId}`)).toBe(BigInt(clusterId));
}

async function json<T>(...args: readonly string[]): Promise<T> {
  const said = await lifeboat(...args);
  expect(said, said.stderr).toMatchObject({ status: 0 });
  return JSON.parse(said.stdout) as T;
}

/** Every node on the PATH that is older than what is needed, and its version. */
async function olderNodes(): Promise<readonly (readonly [string, string])[]> {
  const places = new Set((process.env["PATH"] ?? "").split(delimiter).map((place) => join(place, "node")));
  const found = await Promise.all(
    [...places]
      .filter(isExecutable)
      .map(async (node) => [node, (await run(node, ["--version"])).stdout.trim()] as const),
  );
  return found.filter(([, version]) => Number(/^v(\d+)\./.exec(version)?.[1] ?? "99") < 24);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, 1);
    return true;
  } catch {
    return false;
  }
}
