import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { digestOf } from "../../src/repository/documents.ts";
import { formatBackupName, manifestName, proofName } from "../../src/repository/names.ts";
import { writeProof, type Proof } from "../../src/repository/proof.ts";
import { fillCatalog } from "../bench/catalog-fill.ts";
import { freshKeys } from "../repository/keys.ts";
import { lineageId, sampleBootProof, sampleProof } from "../repository/sample.ts";
import { calm } from "../snapshot/bytes.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, say, type Said } from "./console.ts";

const { signer } = freshKeys();
const idOf = (hour: number): string =>
  formatBackupName({ kind: "slot", timeMs: Date.UTC(2025, 0, 1) + hour * 3_600_000, schedule: "hourly" });
const proofIdOf = (n: number): string => `01JR${n.toString().padStart(22, "0")}`;

let rig: Rig;
let on: (...argv: string[]) => Promise<Said>;
beforeEach(async () => {
  rig = await openRig();
  const config = configOf(rig);
  on = (...argv) => say(rig, ...argv, "--config", config);
  for await (const { name, bytes, timeMs } of fillCatalog(5, signer)) {
    if (!name.includes("/proofs/")) rig.store.objects.set(name, { bytes, modifiedMs: timeMs });
  }
});
afterEach(() => rig[Symbol.dispose]());

/** Binds a proof to a backup as it is stored. */
async function prove(hour: number, proof: Proof): Promise<void> {
  const backup = idOf(hour);
  const manifestSha256 = digestOf(await rig.store.read(manifestName(lineageId, backup), calm));
  await writeProof(rig.store, { ...proof, backup, manifestSha256 }, undefined, calm);
}
const sealed = sampleProof({
  id: proofIdOf(1),
  verdict: "sealed",
  reason: "the members had compacted past it",
  agreeing: ["etcd2"],
  hash: null,
  compactRevision: null,
});

describe("list", () => {
  test("says of each backup what its valid proofs say, and nothing without one", async () => {
    await prove(0, sampleProof({ id: proofIdOf(0) }));
    await prove(1, sealed);
    await prove(2, sealed);
    await prove(2, sampleProof({ id: proofIdOf(2) }));
    await prove(2, sampleBootProof({ id: proofIdOf(3), verdict: "failed" }));
    await prove(2, sampleBootProof({ id: proofIdOf(4) }));
    await prove(3, sampleProof({ id: proofIdOf(5), voters: 1, needed: 1, agreeing: ["etcd2"], alone: true }));
    const { status, out, err } = await on("list");
    expect({ status, err }).toEqual({ status: 0, err: "" });
    const [head = "", ...lines] = out.trimEnd().split("\n");
    const column = head.indexOf("PROOF");
    expect(lines.map((line) => line.slice(column).trim())).toEqual([
      "proven",
      "sealed",
      "proven, boots",
      "proven (alone)",
      "-",
    ]);
    const { backups } = JSON.parse((await on("list", "--json")).out) as { backups: object[] };
    expect(backups).toMatchObject([
      { proof: "proven", provenAt: "2026-03-01T12:00:11.000Z", alone: false, boot: null, state: "sealed" },
      { proof: "sealed", provenAt: null, alone: null, boot: null },
      { proof: "proven", alone: false, boot: "passed" },
      { proof: "proven", alone: true },
      { proof: null, provenAt: null, alone: null, boot: null },
    ]);
    expect(Object.keys(backups[0] ?? {})).not.toContain("manifestSha256");
  });

  test("believes no name: a proof that is damaged, of another backup or of another manifest is refused aloud", async () => {
    await prove(0, sampleProof({ id: proofIdOf(0) }));
    const claim = (hour: number, id: string): string =>
      proofName(lineageId, { backup: idOf(hour), id, kind: "hashkv", verdict: "proven" });
    const good = await rig.store.read(claim(0, proofIdOf(0)), calm);
    const put = (name: string, bytes: Uint8Array): unknown => rig.store.objects.set(name, { bytes, modifiedMs: 0 });
    put(claim(1, proofIdOf(0)), Uint8Array.from(good));
    put(claim(2, proofIdOf(6)), new Uint8Array());
    const { status, out, err } = await on("list");
    expect(status).toBe(12);
    expect(out.match(/ proven$/gm)).toHaveLength(1);
    expect(err).toContain(`refused: hashkv proof ${proofIdOf(0)} of ${lineageId}/${idOf(1)}: `);
    expect(err).toContain(`refused: hashkv proof ${proofIdOf(6)} of ${lineageId}/${idOf(2)}: `);
    const document = JSON.parse((await on("list", "--json")).out) as { refusedProofs: object[] };
    expect(document.refusedProofs).toMatchObject([
      { backup: idOf(1), id: proofIdOf(0), code: "manifest-invalid" },
      { backup: idOf(2), id: proofIdOf(6), code: "manifest-invalid" },
    ]);
  });

  test("says why it is slow where there are many backups and nothing can be kept", async () => {
    for await (const { name, bytes, timeMs } of fillCatalog(500, signer))
      rig.store.objects.set(name, { bytes, modifiedMs: timeMs });
    expect((await on("list")).err).toBe("");
    const { status, err } = await say(
      { ...rig, spoolDirectory: join(rig.spoolDirectory, "missing") },
      "list",
      "--config",
      configOf(rig),
    );
    expect(status).toBe(0);
    expect(err).toMatch(/^note: every manifest is read each time, since nothing can be kept of them: .*ENOENT\n$/);
  });
});

describe("show", () => {
  test("says who answered what and when, and why", async () => {
    await prove(0, sealed);
    await prove(0, sampleProof({ id: proofIdOf(2), diverged: ["etcd1"] }));
    await prove(0, sampleBootProof({ id: proofIdOf(3) }));
    const { status, out } = await on("show", idOf(0));
    expect(status).toBe(0);
    const lines = out.split("\n").filter((line) => /^(proof|boot| {2})/.test(line));
    expect(lines).toEqual([
      "proof            sealed 2026-03-01T12:00:11.000Z: the members had compacted past it",
      "  votes          1 of 3 voters agree, 2 are needed: etcd2",
      "  asked          etcd1 (follower) 2026-03-01T12:00:09.500Z, 0.00 s: no hash: etcd1 does not answer (etcd-unavailable)",
      "  asked          etcd3 (follower) 2026-03-01T12:00:10.000Z, 0.12 s: ffffffff (4294967295) at 100000, compacted to 90000",
      "proof            proven 2026-03-01T12:00:11.000Z: etcd3 has the same data as etcd2: 2 of 3 voters",
      "  votes          2 of 3 voters agree, 2 are needed: etcd2, etcd3; other data on etcd1",
      "  hash           ffffffff (4294967295) at 100000, compacted to 90000",
      "  asked          etcd1 (follower) 2026-03-01T12:00:09.500Z, 0.00 s: no hash: etcd1 does not answer (etcd-unavailable)",
      "  asked          etcd3 (follower) 2026-03-01T12:00:10.000Z, 0.12 s: ffffffff (4294967295) at 100000, compacted to 90000",
      "boot             passed 2026-03-01T12:00:11.000Z: etcd 3.6 serves the restored data: 5000 keys",
      "  tried          etcd 3.6; 5000 keys, HashKV 00000007 (7); 4.20 s; etcdutl 3.6.16, etcd 3.6.16",
    ]);
    const { proofs } = JSON.parse((await on("show", idOf(0), "--json")).out) as { proofs: object[] };
    expect(proofs).toMatchObject([{ verdict: "sealed" }, { verdict: "proven", revision: "100000" }, { kind: "boot" }]);
  });

  test("says that a backup was never compared, and names a proof that cannot be believed", async () => {
    expect((await on("show", idOf(1))).out).toContain("proof            none: its data was not compared");
    rig.store.objects.set(
      proofName(lineageId, { backup: idOf(1), id: proofIdOf(1), kind: "hashkv", verdict: "proven" }),
      { bytes: Buffer.from("{}"), modifiedMs: 0 },
    );
    const { status, out, err } = await on("show", idOf(1));
    expect(status).toBe(12);
    expect(out).toContain("proof            none");
    expect(err).toContain(`refused: hashkv proof ${proofIdOf(1)}`);
  });
});
