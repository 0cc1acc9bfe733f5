import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { isFault, type Fault } from "../../src/faults.ts";
import { openSigner, openTrustedKeys, type Signer, type TrustedKeys } from "../../src/repository/signature.ts";
import { parseIdentities, parseRecipient, type AgeIdentity, type AgeRecipient } from "../../src/snapshot/age.ts";
import { fetchBackup } from "../../src/snapshot/fetch.ts";
import { openSpool, type Spool } from "../../src/snapshot/spool.ts";
import {
  decryptionFor,
  verifyBackup,
  verifyLevels,
  type VerifyDependencies,
  type VerifyLevel,
} from "../../src/snapshot/verify.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";
import { grown, makeArtifact, readArtifact, storeOf, type Artifact } from "./artifact.ts";
import { calm } from "./bytes.ts";
import { damages, type Damage, type Victim } from "./damages.ts";
import { neverBooted } from "./rig.ts";

/**
 * Damage to stored backups of a real database: plain and encrypted, signed and not. LIFEBOAT_SEED repeats a run, LIFEBOAT_DAMAGES sets how many there are.
 */
const seed = Number(process.env["LIFEBOAT_SEED"] ?? 20_260_301);
const count = Number(process.env["LIFEBOAT_DAMAGES"] ?? 500);
/** What must never be needed besides what the small database takes, whatever a frame or a manifest says. */
const mostMoreBytes = 512 * 1024 ** 2;

interface Variant {
  readonly encrypted: boolean;
  readonly signed: boolean;
  readonly artifact: Artifact;
  readonly other: Artifact;
}

let folder: string;
let spool: Spool;
let identities: readonly AgeIdentity[];
let recipients: readonly AgeRecipient[];
let strangers: readonly AgeRecipient[];
let signer: Signer;
let strange: Signer;
let trusted: TrustedKeys;
let variants: readonly Variant[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "damage-test-"));
  spool = await openSpool(join(folder, "spool"));
  const own = await generateX25519Identity();
  identities = parseIdentities(own);
  const second = await generateX25519Identity();
  recipients = await Promise.all([own, second].map(async (each) => parseRecipient(await identityToRecipient(each))));
  strangers = await Promise.all(
    [1, 2].map(async () => parseRecipient(await identityToRecipient(await generateX25519Identity()))),
  );
  const [pair, other] = [generateKeyPairSync("ed25519"), generateKeyPairSync("ed25519")];
  signer = openSigner(String(pair.privateKey.export({ type: "pkcs8", format: "pem" })), "test");
  strange = openSigner(String(other.privateKey.export({ type: "pkcs8", format: "pem" })), "test");
  trusted = openTrustedKeys([{ pem: String(pair.publicKey.export({ type: "spki", format: "pem" })), origin: "test" }]);
  variants = await Promise.all(
    [
      { encrypted: false, signed: false },
      { encrypted: true, signed: false },
      { encrypted: false, signed: true },
      { encrypted: true, signed: true },
    ].map(async ({ encrypted, signed }) => {
      const how = { recipients: encrypted ? recipients : [], signer: signed ? signer : undefined };
      const artifact = await makeArtifact({ ...how, snapshot: grown(fixtureBytes("3.6")), number: 1 });
      const other = await makeArtifact({ ...how, snapshot: grown(fixtureBytes("3.5")), number: 2 });
      return { encrypted, signed, artifact, other };
    }),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Numbers from a seed (mulberry32). */
function numbers(from: number): (limit: number) => number {
  let state = from >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

function victimOf({ artifact, other, encrypted, signed }: Variant, below: Victim["below"]): Victim {
  return {
    artifact,
    other,
    objects: new Map(artifact.objects),
    manifest: artifact.manifest,
    recipients: encrypted ? recipients : [],
    strangers,
    signer: signed ? signer : undefined,
    strange,
    below,
  };
}

function dependenciesOf(victim: Victim): VerifyDependencies & { readonly store: ReturnType<typeof storeOf> } {
  return {
    store: storeOf(victim.objects),
    spool: async () => spool,
    // What a worker thread does, without one for each of a thousand scans.
    scan: async (path, probe) => scanSnapshot(path, { probe, expectSeal: true }),
    identities: async () => identities,
    newId: () => "01JQAAAAAAAAAAAAAAAAAAAAAA",
    boot: neverBooted,
  };
}

/** What a level says of a victim: a Fault, or undefined when all is well. Anything else that is thrown is a bug. */
async function verdict(victim: Victim, variant: Variant, level: VerifyLevel): Promise<Fault | undefined> {
  const deps = dependenciesOf(victim);
  const entry = await readArtifact(deps.store, victim.artifact, variant.signed ? trusted : undefined);
  if (entry.manifest === undefined) return entry.refused;
  return faultOf(verifyBackup(deps, entry.manifest, level, calm));
}

async function fetching(victim: Victim, variant: Variant): Promise<Fault | undefined> {
  const deps = dependenciesOf(victim);
  const entry = await readArtifact(deps.store, victim.artifact, variant.signed ? trusted : undefined);
  if (entry.manifest === undefined) return entry.refused;
  const { manifest } = entry;
  const place = mkdtempSync(join(folder, "out-"));
  try {
    let mostBytes = 0;
    const heard = (doneBytes: number): void => void (mostBytes = Math.max(mostBytes, doneBytes));
    const fault = await faultOf(
      decryptionFor(manifest, deps.identities).then(async (encryption) =>
        fetchBackup(deps, manifest, encryption, join(place, "out.db"), heard, calm),
      ),
    );
    expect(mostBytes).toBeLessThanOrEqual(victim.artifact.plain.length + 4 * 1024 ** 2);
    expect(readdirSync(place)).toEqual(fault === undefined ? ["out.db"] : []);
    return fault;
  } finally {
    rmSync(place, { recursive: true });
  }
}

async function faultOf(work: Promise<unknown>): Promise<Fault | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (!isFault(error)) throw error;
    return error;
  }
}

function fits({ of = {} }: Damage, { encrypted, signed }: Variant): boolean {
  return (of.encrypted ?? encrypted) === encrypted && (of.signed ?? signed) === signed;
}

/** An object of the store, or the backup itself. */
function expectNamed(fault: Fault, { artifact, other }: Victim): void {
  const known = [artifact, other].flatMap(({ manifest }) => [
    manifest.backup,
    manifest.data.object,
    manifest.note.object,
  ]);
  known.push(artifact.manifest.extras?.object ?? "", "lineages/");
  expect(
    known.some((name) => name !== "" && fault.message.includes(name)),
    fault.message,
  ).toBe(true);
}

describe("a stored backup", () => {
  test("that is whole passes every level, and is fetched", async () => {
    for (const variant of variants) {
      expect(variant.artifact.manifest.data.compression.frames.length).toBeGreaterThan(5);
      const victim = victimOf(variant, numbers(1));
      for (const level of verifyLevels.filter((each) => each !== "boot"))
        expect(await verdict(victim, variant, level)).toBeUndefined();
      expect(await fetching(victim, variant)).toBeUndefined();
    }
  });

  test(
    "that is damaged is found out at the level that must find it, and at deep, by a fault that names it, in bounded memory, and leaves nothing behind",
    async () => {
      console.log(`${count} damages of ${damages.length} kinds: LIFEBOAT_SEED=${seed}`);
      const beforeBytes = process.memoryUsage.rss();
      let mostBytes = 0;
      for (let n = 0; n < count; n += 1) {
        const damage = damages[n % damages.length];
        if (damage === undefined) throw new Error("there are no damages");
        const below = numbers(seed + n * 7919);
        const fitting = variants.filter((variant) => fits(damage, variant));
        const variant = fitting[(Math.floor(n / damages.length) + seed) % fitting.length];
        if (variant === undefined) throw new Error(`no variant fits ${damage.name}`);
        const what = `damage ${n}, ${damage.name} (${variant.encrypted ? "encrypted" : "plain"}, ${variant.signed ? "signed" : "unsigned"}), LIFEBOAT_SEED=${seed}`;
        const victim = victimOf(variant, below);
        await damage.apply(victim);
        const earliest = damage.found === "belief" ? "manifest" : damage.found;
        for (const level of new Set([earliest, "deep"] as const)) {
          const fault = await verdict(victim, variant, level);
          expect(fault, `${what}: not found at ${level}`).toBeDefined();
          if (fault === undefined) continue;
          if (damage.codes !== undefined) expect(damage.codes, `${what}: ${fault.message}`).toContain(fault.code);
          expectNamed(fault, victim);
        }
        if (damage.fetched) expect(await fetching(victim, variant), `${what}: fetched`).toBeDefined();
        expect(readdirSync(spool.directory), what).toEqual([]);
        mostBytes = Math.max(mostBytes, process.memoryUsage.rss() - beforeBytes);
      }
      console.log(`at most ${Math.round(mostBytes / 1024 ** 2)} MiB more memory than before`);
      expect(mostBytes).toBeLessThan(mostMoreBytes);
    },
    20 * 60_000,
  );

  test("whose identity is not configured fails from structure on, naming what could not be checked and whose key is missing", async () => {
    const variant = variants.find(({ encrypted }) => encrypted);
    if (variant === undefined) throw new Error("no variant is encrypted");
    const victim = victimOf(variant, numbers(1));
    const deps = { ...dependenciesOf(victim), identities: async () => [] };
    for (const level of ["manifest", "bytes"] as const)
      expect(await faultOf(verifyBackup(deps, variant.artifact.manifest, level, calm))).toBeUndefined();
    for (const level of ["structure", "deep", "boot"] as const) {
      const fault = await faultOf(verifyBackup(deps, variant.artifact.manifest, level, calm));
      expect(fault).toMatchObject({ code: "key-missing", exitStatus: 4 });
      for (const { text } of recipients) expect(fault?.message).toContain(text);
      expect(fault?.message).toMatch(
        /: decryption, seal, structure|: decryption, seal and structure could not be checked$/,
      );
      expect(fault?.message.includes("HashKV")).toBe(level !== "structure");
    }
  });
});
