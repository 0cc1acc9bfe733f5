import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { extract } from "tar-stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { readIdentity } from "../../src/repository/identity.ts";
import type { Manifest } from "../../src/repository/manifest.ts";
import { runBackup } from "../../src/snapshot/backup.ts";
import { readExtras } from "../../src/snapshot/extras.ts";
import { fetchBackup } from "../../src/snapshot/fetch.ts";
import { importSnapshot } from "../../src/snapshot/import.ts";
import { verifyBackup, type VerifyLevel } from "../../src/snapshot/verify.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";
import { calm } from "./bytes.ts";
import { database, demand, neverBooted, openRig, scanned, type Rig } from "./rig.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "files-test-"));
});
afterEach(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);
const quiet = (): void => undefined;

async function backedUp(rig: Rig): Promise<Manifest> {
  const outcome = await runBackup(rig.deps, demand, calm);
  if (outcome.kind !== "committed") throw new Error("not committed");
  // From now on a scan is asked for these rows.
  rig.facts.current = scanned({ probed: outcome.manifest.samples });
  return outcome.manifest;
}
function damage(rig: Rig, name: string, change: (bytes: Uint8Array) => Uint8Array): void {
  const entry = rig.store.objects.get(name);
  if (entry === undefined) throw new Error(`no ${name}`);
  rig.store.objects.set(name, { ...entry, bytes: change(Uint8Array.from(entry.bytes)) });
}
const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === bytes.length >> 1 ? byte ^ 1 : byte));

describe("extras", () => {
  test("are files, directories and links, in a tar that stock tools read", async () => {
    mkdirSync(path("pki/etcd"), { recursive: true });
    writeFileSync(path("pki/ca.crt"), "certificate");
    writeFileSync(path("pki/etcd/server.key"), "key", { mode: 0o600 });
    symlinkSync("ca.crt", path("pki/link"));
    const { tar, files, missing } = await readExtras([path("pki"), path("absent")]);
    expect(missing).toEqual([{ path: path("absent"), why: "ENOENT" }]);
    expect(files.map((file) => [file.path.slice(folder.length), file.bytes])).toEqual([
      ["/pki/ca.crt", 11],
      ["/pki/etcd/server.key", 3],
      ["/pki/link", 0],
    ]);
    const entries: string[] = [];
    const reader = extract();
    reader.on("entry", (header, stream, next) => {
      entries.push(
        `${header.type} ${header.name.slice(folder.length)} ${header.linkname ?? ""} ${(header.mode ?? 0).toString(8)}`,
      );
      stream.on("end", next).resume();
    });
    await new Promise<void>((resolve) => void reader.on("finish", () => resolve()).end(tar));
    expect(entries.map((entry) => entry.split(" ").slice(0, 2).join(" "))).toEqual([
      "file pki/ca.crt",
      "file pki/etcd/server.key",
      "symlink pki/link",
    ]);
    expect(entries[1]).toContain("600");
  });

  test("that have grown too large or too many are missing, and never stop a backup", async () => {
    writeFileSync(path("large"), Buffer.alloc(33 * 1024 * 1024));
    writeFileSync(path("small"), "x");
    const large = await readExtras([path("large"), path("small")]);
    expect(large.files).toMatchObject([{ path: path("small") }]);
    expect(large.missing).toMatchObject([{ path: path("large"), why: expect.stringContaining("too large") as string }]);
    mkdirSync(path("many"));
    for (let n = 0; n < 10_050; n += 1) symlinkSync("x", path(`many/${n}`));
    const many = await readExtras([path("many"), path("small")]);
    expect(many.files.length).toBeLessThan(10_000);
    expect(many.missing).toHaveLength(1);
  });
});

describe("fetch", () => {
  test("gives the very file that etcdctl would have saved, for us alone", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    await fetchBackup(rig.deps, manifest, { kind: "none" }, path("out.db"), quiet, calm);
    const seal = createHash("sha256").update(database).digest();
    expect(readFileSync(path("out.db")).equals(Buffer.concat([database, seal]))).toBe(true);
    expect(statSync(path("out.db")).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["out.db"]);
  });

  test("never replaces a file, and says so before it downloads", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    writeFileSync(path("out.db"), "mine");
    const calls = rig.store.calls.length;
    await expect(fetchBackup(rig.deps, manifest, { kind: "none" }, path("out.db"), quiet, calm)).rejects.toMatchObject({
      code: "usage",
    });
    expect(rig.store.calls).toHaveLength(calls);
    expect(readFileSync(path("out.db"), "utf8")).toBe("mine");
  });

  test.each<[string, (bytes: Uint8Array) => Uint8Array]>([
    ["changed", flip],
    ["truncated", (bytes) => bytes.subarray(0, bytes.length - 1)],
    ["longer", (bytes) => Buffer.concat([bytes, Buffer.from("x")])],
    ["empty", () => new Uint8Array(0)],
  ])("of an object that was %s leaves nothing", async (_, change) => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    damage(rig, manifest.data.object, change);
    await expect(fetchBackup(rig.deps, manifest, { kind: "none" }, path("out.db"), quiet, calm)).rejects.toMatchObject({
      code: "object-damaged",
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  test("into a directory that is not there names that directory, not the spool", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    await expect(
      fetchBackup(rig.deps, manifest, { kind: "none" }, path("no/out.db"), quiet, calm),
    ).rejects.toMatchObject({
      message: expect.stringContaining(path("no")) as string,
    });
  });

  test("that is interrupted leaves nothing", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    const controller = new AbortController();
    const stop = new Fault("interrupted", "stop");
    const fetching = fetchBackup(
      rig.deps,
      manifest,
      { kind: "none" },
      path("out.db"),
      () => controller.abort(stop),
      controller.signal,
    );
    await expect(fetching).rejects.toBe(stop);
    expect(existsSync(path("out.db"))).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("tells why it failed, not that its partial file could not be removed", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    const controller = new AbortController();
    const stop = new Fault("interrupted", "stop");
    let removed = 0;
    const sabotage = (): void => {
      for (const name of readdirSync(folder)) {
        rmSync(path(name));
        removed += 1;
      }
      controller.abort(stop);
    };
    const fetching = fetchBackup(rig.deps, manifest, { kind: "none" }, path("out.db"), sabotage, controller.signal);
    await expect(fetching).rejects.toBe(stop);
    expect(removed).toBe(1);
  });

  test("is not hindered by what a killed one with the same pid left behind", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    const stale = `out.db.${process.pid}.partial`;
    writeFileSync(path(stale), "half");
    await fetchBackup(rig.deps, manifest, { kind: "none" }, path("out.db"), quiet, calm);
    expect(readdirSync(folder).toSorted()).toEqual(["out.db", stale]);
    expect(readFileSync(path(stale), "utf8")).toBe("half");
  });
});

describe("verify", () => {
  const verifying = (rig: Rig, manifest: Manifest, level: VerifyLevel, changes = {}): Promise<unknown> => {
    rig.facts.current = scanned({ probed: manifest.samples, ...changes });
    const { store, scan, newId } = rig.deps;
    return verifyBackup(
      { store, spool: async () => rig.deps.spool, scan, identities: async () => [], newId, boot: neverBooted },
      manifest,
      level,
      calm,
    );
  };

  test("of each level finds what the level before cannot", async () => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    for (const level of ["manifest", "bytes", "structure"] as const) await verifying(rig, manifest, level);
    await expect(verifying(rig, manifest, "structure", { keys: 41, revision: 51n })).rejects.toThrow(
      /revision 51 instead of 50, keys 41 instead of 40/,
    );
    await expect(verifying(rig, manifest, "structure", { probed: [] })).rejects.toThrow(/sampled rows 0 instead of 1/);
    damage(rig, manifest.data.object, flip);
    await verifying(rig, manifest, "manifest");
    for (const level of ["bytes", "structure"] as const)
      await expect(verifying(rig, manifest, level)).rejects.toMatchObject({ code: "object-damaged" });
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  });

  test.each(["data", "note"] as const)("finds that the %s object is gone or has another size", async (which) => {
    using rig = await openRig();
    const manifest = await backedUp(rig);
    damage(rig, manifest[which].object, (bytes) => bytes.subarray(1));
    await expect(verifying(rig, manifest, "manifest")).rejects.toThrow(/bytes, its manifest says/);
    rig.store.objects.delete(manifest[which].object);
    await expect(verifying(rig, manifest, "manifest")).rejects.toThrow(/is missing from memory:/);
  });
});

describe("import", () => {
  test("makes a file of etcdctl a backup in a lineage of its own, marked foreign, without today's extras", async () => {
    using rig = await openRig(
      {},
      {
        encoder: {
          compressionLevel: 1,
          recipients: [],
          extras: ["/etc/hostname"],
          signer: undefined,
          readBackBelowBytes: undefined,
        },
      },
    );
    writeFileSync(path("old.db"), fixtureBytes("3.6"));
    const manifest = await importSnapshot(rig.deps, path("old.db"), "migration", calm);
    expect(manifest).toMatchObject({
      trigger: "import",
      label: "migration",
      live: null,
      source: null,
      extras: null,
      extrasMissing: [],
    });
    const identity = await readIdentity(rig.store, "prod", calm);
    expect(identity?.id).toBe(manifest.repository);
    expect(manifest.lineage).not.toBe(identity?.firstLineage);
    expect(rig.ends()).toEqual(["backup.committed"]);
    await expect(importSnapshot(rig.deps, path("old.db"), undefined, calm)).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("imported already") as string,
    });
    expect(rig.ends()).toEqual(["backup.committed", "backup.failed"]);
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  });

  test.each<[string, () => Buffer, string]>([
    ["without a seal", () => fixtureBytes("3.5").subarray(0, -32), "snapshot-broken"],
    ["that was truncated", () => fixtureBytes("3.5").subarray(0, 4096 + 32), "snapshot-broken"],
    ["with a changed byte", () => Buffer.from(flip(fixtureBytes("3.5"))), "snapshot-broken"],
    ["that is empty", () => Buffer.alloc(0), "snapshot-broken"],
  ])("of a file %s is refused, and nothing is stored", async (_, content, code) => {
    using rig = await openRig();
    writeFileSync(path("old.db"), content());
    await expect(importSnapshot(rig.deps, path("old.db"), undefined, calm)).rejects.toMatchObject({ code });
    expect(rig.store.objects.size).toBe(0);
    expect(rig.ends()).toEqual(["backup.failed"]);
  });

  test("of a path that is no file is refused by name", async () => {
    using rig = await openRig();
    await expect(importSnapshot(rig.deps, path("absent"), undefined, calm)).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("ENOENT") as string,
    });
    await expect(importSnapshot(rig.deps, folder, undefined, calm)).rejects.toBeInstanceOf(Fault);
    // Opening a pipe that nobody writes to would wait for ever, deaf to every signal.
    execFileSync("mkfifo", [path("pipe")]);
    await expect(importSnapshot(rig.deps, path("pipe"), undefined, calm)).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("is not a regular file") as string,
    });
  });
});
