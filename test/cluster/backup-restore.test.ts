import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { restoreByHand } from "./by-hand.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { runProgram } from "./processes.ts";
import { minors, toolProgram } from "./servers.ts";
import { manifestsOf, openSite, type Site } from "./site.ts";

/** From a live cluster of every minor to a backup, and back from it with stock tools alone. */

/** Minors that run with three members, certificates everywhere and an older or newer neighbour's quirks; one member is enough for the others. */
const large: readonly string[] = ["3.4", "3.6"];

interface BackupAnswer {
  readonly copies: readonly unknown[];
  readonly schema: string;
  readonly backup: string;
  readonly lineage: string;
  readonly revision: string;
  readonly keys: number;
  readonly state: string;
  readonly encrypted: boolean;
  readonly quorum: boolean | null;
  readonly trigger: string;
  readonly reason: string;
  readonly agreeing: readonly string[];
  readonly diverged: readonly string[];
}

interface Shown {
  readonly content: { readonly revision: string; readonly seal: string };
  readonly data: { readonly object: string };
  readonly extras: { readonly object: string; readonly files: readonly { readonly path: string }[] };
  readonly note: { readonly object: string; readonly sha256: string };
  readonly live: { readonly highestRevision: string; readonly members: readonly unknown[] };
}

describe.each(minors)("etcd %s", { timeout: 180_000 }, (minor) => {
  let cluster: TestCluster;
  let site: Site;
  let backup: BackupAnswer;

  beforeAll(async () => {
    cluster = await startCluster({ minor, members: large.includes(minor) ? 3 : 1, tls: large.includes(minor) });
    const { tls } = cluster;
    site = await openSite({
      cluster: {
        name: "prod",
        endpoints: [...cluster.endpoints],
        ...(tls === undefined ? {} : { tls: { ca: tls.ca, cert: tls.cert, key: tls.key } }),
      },
      signed: true,
    });
    await mkdir(join(site.directory, "pki"));
    await writeFile(join(site.directory, "pki/ca.key"), "the CA's key, a canary\n");
    site.config.repository.extras = [join(site.directory, "pki")];
    site.secrets.add("canary");
    await cluster.fill({ keys: 800, valueBytes: 700 });
    await cluster.put("binary", Buffer.from([0, 1, 255, 10, 13, 0]));
    await cluster.put("unicode/ключ", "значение");
    await cluster.etcdctl(["del", "fill/00000007"]);
    await cluster.etcdctl(["lease", "grant", "3600"]);
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });

  test("a backup is committed, listed, shown, and verifies down to the structure of its database", async () => {
    const revision = await cluster.revision();
    backup = await site.json<BackupAnswer>(["backup", "--label", "before the storm"]);
    expect(backup).toMatchObject({
      schema: "etcd-lifeboat/backup/v1",
      keys: 801,
      label: "before the storm",
      state: "sealed",
      encrypted: true,
      quorum: true,
    });
    expect(BigInt(backup.revision)).toBe(revision);

    const list = await site.json<{ backups: readonly unknown[]; refused: readonly unknown[] }>(["list"]);
    // What members said is told of the run, and later by show.
    const { schema: _, reason, agreeing, diverged, copies, ...listed } = backup;
    expect(copies).toEqual([]);
    expect(agreeing.length * 2, reason).toBeGreaterThan(cluster.members.length);
    expect(diverged).toEqual([]);
    expect(list).toMatchObject({ schema: "etcd-lifeboat/list/v1", refused: [], backups: [listed] });
    const shown = await site.json<Shown>(["show", "latest"]);
    expect(shown.content.revision).toBe(backup.revision);
    expect(shown.live.members).toHaveLength(cluster.members.length);
    expect(shown.extras.files.map(({ path }) => path)).toEqual([join(site.directory, "pki/ca.key")]);

    const verified = await site.json<{ results: readonly unknown[] }>([
      "verify",
      backup.backup,
      "--level",
      "structure",
    ]);
    expect(verified.results).toEqual([expect.objectContaining({ backup: backup.backup, ok: true })]);
    expect((await site.run(["status"])).status).toBe(0);
  });

  test("nothing that etcd or the extras hold stands readable in the store", async () => {
    for (const name of await site.objects()) {
      const bytes = await readFile(join(site.store, name));
      for (const plain of ["fill/0000", "canary", "ключ"])
        expect(bytes.includes(plain), `${plain} in ${name}`).toBe(false);
    }
  });

  test("fetch gives a file that etcdutl restores with its hash check, and never replaces one", async () => {
    const file = join(site.directory, "fetched.db");
    const fetched = await site.json<{ seal: string }>(["fetch", "latest", "--output", file]);
    const bytes = await readFile(file);
    expect(fetched.seal).toBe(createHash("sha256").update(bytes.subarray(0, -32)).digest("hex"));
    const status = JSON.parse(await cluster.etcdutl(["snapshot", "status", file, "--write-out", "json"])) as {
      revision: number;
    };
    expect(BigInt(status.revision)).toBe(BigInt(backup.revision));
    await cluster.etcdutl(["snapshot", "restore", file, "--data-dir", join(site.directory, "restored")]);

    const again = await site.run(["fetch", "latest", "--output", file]);
    expect(again).toMatchObject({ status: 2, stderr: expect.stringContaining(`${file} exists already`) });
    expect(await readFile(file)).toEqual(bytes);
  });

  test("a file of etcdctl snapshot save becomes a foreign backup in a lineage of its own, once", async () => {
    const file = join(site.directory, "saved.db");
    await cluster.etcdctl(["snapshot", "save", file], { endpoints: cluster.endpoints.slice(0, 1) });
    const imported = await site.json<BackupAnswer>(["import", file, "--label", "from etcdctl"]);
    expect(imported).toMatchObject({ state: "foreign", trigger: "import", keys: backup.keys, encrypted: true });
    expect(imported.lineage).not.toBe(backup.lineage);

    const out = join(site.directory, "imported.db");
    await site.json(["fetch", `${imported.lineage}/${imported.backup}`, "--output", out]);
    expect((await readFile(out)).equals(await readFile(file))).toBe(true);
    expect(await site.json<Shown>(["show", "latest"])).toMatchObject({ backup: backup.backup });

    // Its note too can be followed; the members are those that the file names.
    const { note } = await site.json<Shown>(["show", imported.backup]);
    const restored = await restoreByHand(await readFile(join(site.store, note.object), "utf8"), {
      store: site.store,
      directory: join(site.directory, "imported-by-hand"),
      identity: site.identities[0],
      minor,
    });
    expect([...restored.dataDirectories.keys()].toSorted()).toEqual(cluster.members.map(({ name }) => name).toSorted());

    const second = await site.run(["import", file]);
    expect(second).toMatchObject({
      status: 2,
      stderr: expect.stringContaining(`imported already, as ${imported.lineage}/${imported.backup}`),
    });
  });

  test("RESTORE.md, followed with stock tools alone, brings every key back above every revision that was seen", async () => {
    const shown = await site.json<Shown>(["show", backup.backup]);
    const bytes = await readFile(join(site.store, shown.note.object));
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(shown.note.sha256);
    const before = await everyKey(cluster);
    // Written after the backup: clients have seen these revisions, and no revision may ever mean two things.
    await cluster.fill({ keys: 1000, valueBytes: 10, prefix: "lost/" });
    const seen = await cluster.revision();
    const note = bytes.toString();
    // The second recipient's key is the one in escrow: each recipient can open every backup.
    const [, identity] = site.identities;
    const directory = join(site.directory, "by-hand");
    const restored = await restoreByHand(note, { store: site.store, directory, identity, minor });
    expect([...restored.dataDirectories.keys()].toSorted()).toEqual(cluster.members.map(({ name }) => name).toSorted());

    await cluster.destroy();
    for (const { name, dataDirectory } of cluster.members) {
      await rename(restored.dataDirectories.get(name) ?? "", dataDirectory);
    }
    await Promise.all(cluster.members.map((member) => member.start()));
    expect(await everyKey(cluster)).toEqual(before);
    expect(await cluster.revision()).toBeGreaterThanOrEqual(BigInt(backup.revision) + restored.bump);
    expect(await cluster.revision()).toBeGreaterThan(seen);
    expect(restored.bump).toBeGreaterThanOrEqual(1_000_000_000n);
    await cluster.put("after", "the restore");

    expect(await listExtras(note, site, identity)).toContain(join(site.directory, "pki/ca.key").slice(1));
  });

  test("what came back is another history: refused until it is adopted, then backed up", async () => {
    const before = manifestsOf(await site.objects());
    const refused = await site.run(["backup"]);
    expect(refused).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/cluster's ID is [0-9a-f]+[^]*etcd-lifeboat adopt/),
    });
    expect(manifestsOf(await site.objects())).toEqual(before);
    expect(await site.run(["adopt"])).toMatchObject({
      status: 4,
      stderr: expect.stringContaining("--confirm-cluster prod"),
    });
    expect((await site.run(["adopt", "--confirm-cluster", "prod"])).status).toBe(0);
    const next = await site.json<BackupAnswer>(["backup"]);
    expect(next.lineage).not.toBe(backup.lineage);
    expect((await site.run(["verify", "--level", "structure"])).status).toBe(0);
  });
});

/** Every key with its value, as etcdctl gives them (base64). */
async function everyKey(cluster: TestCluster): Promise<readonly { readonly key: string; readonly value: string }[]> {
  const answer = JSON.parse(await cluster.etcdctl(["get", "", "--prefix", "--write-out", "json"])) as {
    readonly kvs: readonly { readonly key: string; readonly value?: string }[];
  };
  return answer.kvs.map(({ key, value = "" }) => ({ key, value }));
}

/** Runs the note's command for the extras. */
async function listExtras(note: string, site: Site, identity: string): Promise<string> {
  const object = /^`(lineages\/[^`]+extras[^`]+)` holds/m.exec(note)?.[1] ?? "";
  const command = /`(age -d -i KEY \S+ \| zstd -d \| tar -tf -)`/.exec(note)?.[1] ?? "";
  const directory = join(site.directory, "by-hand");
  await copyFile(join(site.store, object), join(directory, basename(object)));
  const PATH = `${dirname(toolProgram("age"))}:/usr/bin:/bin`;
  return runProgram("sh", ["-eu", "-c", command.replace("KEY", `'${identity}'`)], { cwd: directory, env: { PATH } });
}
