import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { FaultCode } from "../../src/faults.ts";
import { writeManifest, type Manifest } from "../../src/repository/manifest.ts";
import { manifestName } from "../../src/repository/names.ts";
import type { Signer } from "../../src/repository/signature.ts";
import type { AgeRecipient } from "../../src/snapshot/age.ts";
import type { VerifyLevel } from "../../src/snapshot/verify.ts";
import { digests, encodeFrames, encrypt, pairs, sealAgain, sealOf, type Artifact } from "./artifact.ts";

/** Kinds of damage to a stored backup. Each says at which level it must be found, at the latest. */

/** A copy of an artifact that is to be damaged. */
export interface Victim {
  readonly artifact: Artifact;
  /** Another backup of the same repository, with the same keys. */
  readonly other: Artifact;
  readonly objects: Artifact["objects"];
  manifest: Manifest;
  readonly recipients: readonly AgeRecipient[];
  readonly strangers: readonly AgeRecipient[];
  readonly signer: Signer | undefined;
  readonly strange: Signer;
  /** A whole number from 0 on and below this. */
  readonly below: (limit: number) => number;
}

export interface Damage {
  readonly name: string;
  /** The variants of a backup that can be damaged like this; any by default. */
  readonly of?: { readonly encrypted?: boolean; readonly signed?: boolean };
  /** `belief`: the manifest itself is refused. */
  readonly found: "belief" | VerifyLevel;
  /** Whether `fetch` reads what was damaged. */
  readonly fetched: boolean;
  readonly codes?: readonly FaultCode[];
  readonly apply: (victim: Victim) => void | Promise<void>;
}

type ObjectKind = "data" | "note" | "extras";

const nameOf = (victim: Victim, kind: ObjectKind): string => victim.artifact.manifest[kind]?.object ?? "";
const bytesOf = (victim: Victim, kind: ObjectKind): Buffer =>
  Buffer.from(victim.objects.get(nameOf(victim, kind))?.bytes ?? []);
const store = (victim: Victim, kind: ObjectKind, bytes: Uint8Array): void =>
  void victim.objects.set(nameOf(victim, kind), { bytes, modifiedMs: 0 });
const between = ({ below }: Victim, from: number, to: number): number => from + below(to - from);

function flipAt(bytes: Buffer, at: number, bit: number): Buffer {
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
  return bytes;
}

/** Flips one bit of an object in [from, to). */
function flip(victim: Victim, kind: ObjectKind, from: number, to: number): void {
  store(victim, kind, flipAt(bytesOf(victim, kind), between(victim, from, to), victim.below(8)));
}

/** Where a frame of the plain object lies. */
function frameAt({ artifact }: Victim, index: number): { readonly from: number; readonly to: number } {
  const sizes = artifact.manifest.data.compression.frames.map(([, stored]) => stored);
  const from = sizes.slice(0, index).reduce((sum, size) => sum + size, 0);
  return { from, to: from + (sizes[index] ?? 0) };
}
const anyFrame = (victim: Victim): number => victim.below(victim.artifact.manifest.data.compression.frames.length);
function frameOf(victim: Victim, index: number): Buffer {
  const { from, to } = frameAt(victim, index);
  return Buffer.from(victim.artifact.compressed.subarray(from, to));
}

/** The manifest as somebody would write it who has all keys of this host. */
function rewrite(victim: Victim, change: (manifest: Manifest) => Manifest): void {
  victim.manifest = change(structuredClone(victim.manifest));
  putManifest(victim, writeManifest(victim.manifest, victim.signer));
}
function putManifest({ objects, artifact }: Victim, bytes: Uint8Array): void {
  objects.set(manifestName(artifact.listed.lineage, artifact.listed.backup), { bytes, modifiedMs: 0 });
}
function manifestBytes({ objects, artifact }: Victim): Buffer {
  return Buffer.from(objects.get(manifestName(artifact.listed.lineage, artifact.listed.backup))?.bytes ?? []);
}
const changeData = (victim: Victim, change: Partial<Manifest["data"]>): void =>
  rewrite(victim, (manifest) => ({ ...manifest, data: { ...manifest.data, ...change } }));
const changeContent = (victim: Victim, change: Partial<Manifest["content"]>): void =>
  rewrite(victim, (manifest) => ({ ...manifest, content: { ...manifest.content, ...change } }));

/** Stores other bytes, with a manifest that knows their size and hashes. */
function forgeStored(victim: Victim, bytes: Uint8Array): void {
  store(victim, "data", bytes);
  changeData(victim, digests(bytes));
}

/** Stores other frames, encrypted where the backup is, with a manifest that fits. */
async function forgeFrames(
  victim: Victim,
  frames: readonly { readonly plainBytes: number; readonly bytes: Uint8Array }[],
  keep = {},
): Promise<void> {
  const stored = await encrypt(Buffer.concat(frames.map(({ bytes }) => bytes)), victim.recipients);
  store(victim, "data", stored);
  changeData(victim, {
    ...digests(stored),
    compression: { format: "zstd", frames: frames.map(({ plainBytes, bytes }) => [plainBytes, bytes.length]) },
    ...keep,
  });
}
function framesOf(victim: Victim): { plainBytes: number; bytes: Buffer }[] {
  return victim.artifact.manifest.data.compression.frames.map(([plainBytes], index) => ({
    plainBytes,
    bytes: frameOf(victim, index),
  }));
}
/** One frame replaced by what becomes of it. */
async function forgeFrame(victim: Victim, change: (bytes: Buffer) => Uint8Array): Promise<void> {
  const frames = framesOf(victim);
  const frame = frames[anyFrame(victim)];
  if (frame !== undefined) frame.bytes = Buffer.from(change(frame.bytes));
  await forgeFrames(victim, frames);
}

/** Stores another database under a manifest that fits it in all but what it says of the content. */
async function forgeDatabase(victim: Victim, plain: Uint8Array): Promise<void> {
  const { stored, frames } = await encodeFrames(plain, victim.recipients);
  store(victim, "data", stored);
  rewrite(victim, (manifest) => ({
    ...manifest,
    content: { ...manifest.content, dbBytes: plain.length - 32, seal: sealOf(plain).toString("hex") },
    data: {
      ...manifest.data,
      ...digests(stored),
      plainBytes: plain.length,
      compression: { format: "zstd", frames: pairs(frames) },
    },
  }));
}

/** One zstd frame that says it holds `saysBytes` and decodes to `blocks` times 128 KiB. */
function bomb(saysBytes: number, blocks: number): Buffer {
  const head = Buffer.alloc(14);
  head.writeUInt32LE(0xfd2fb528, 0);
  head[4] = 0b1100_0100; // content size of 8 bytes, a window, a checksum
  head[5] = 0x50; // 1 MiB
  head.writeBigUInt64LE(BigInt(saysBytes), 6);
  const repeated = Buffer.alloc(blocks * 4);
  for (let n = 0; n < blocks; n += 1) {
    repeated.writeUIntLE((n === blocks - 1 ? 1 : 0) | (1 << 1) | (131_072 << 3), n * 4, 3);
  }
  return Buffer.concat([head, repeated, Buffer.alloc(4)]);
}

function zeros(bytes: number): Buffer {
  return zstdCompressSync(Buffer.alloc(bytes), {
    pledgedSrcSize: bytes,
    params: { [constants.ZSTD_c_checksumFlag]: 1 },
  });
}

const damaged = ["object-damaged"] as const;
const contradictory = ["manifest-invalid"] as const;
const refused = ["manifest-invalid", "manifest-untrusted"] as const;
const ageHeaderBytes = (victim: Victim): number => bytesOf(victim, "data").indexOf("\n--- ") + 49;
/** Header, nonce; then chunks. */
const payloadAt = (victim: Victim): number => ageHeaderBytes(victim) + 16;
const ageChunkBytes = 64 * 1024 + 16;

const sameSize: readonly Damage[] = [
  {
    name: "a bit of a frame's header",
    of: { encrypted: false },
    range: (v: Victim) => at(frameAt(v, anyFrame(v)).from, 6),
  },
  { name: "a bit inside a frame", of: { encrypted: false }, range: (v: Victim) => inside(frameAt(v, anyFrame(v))) },
  {
    name: "a bit of a frame's checksum",
    of: { encrypted: false },
    range: (v: Victim) => at(frameAt(v, anyFrame(v)).to - 4, 4),
  },
  { name: "a bit of the last byte", range: (v: Victim) => at(bytesOf(v, "data").length - 1, 1) },
  { name: "a bit of the first byte", range: () => at(0, 1) },
  { name: "a bit of the age header", of: { encrypted: true }, range: (v: Victim) => at(0, ageHeaderBytes(v) - 49) },
  {
    name: "a bit of the age header's MAC",
    of: { encrypted: true },
    range: (v: Victim) => at(ageHeaderBytes(v) - 48, 48),
  },
  { name: "a bit of the age nonce", of: { encrypted: true }, range: (v: Victim) => at(ageHeaderBytes(v), 16) },
  {
    name: "a bit of the age payload",
    of: { encrypted: true },
    range: (v: Victim) => at(payloadAt(v), bytesOf(v, "data").length - payloadAt(v)),
  },
  {
    name: "a bit of the last age chunk's tag",
    of: { encrypted: true },
    range: (v: Victim) => at(bytesOf(v, "data").length - 16, 16),
  },
].flatMap(({ name, of = {}, range }): Damage[] => [
  {
    name: `${name} flipped`,
    of,
    found: "bytes",
    fetched: true,
    codes: damaged,
    apply: (v) => flip(v, "data", range(v).from, range(v).to),
  },
  {
    name: `${name} flipped, and the manifest's hashes with it`,
    of,
    found: "structure",
    fetched: true,
    codes: ["object-damaged", "key-missing"],
    apply(v) {
      const { from, to } = range(v);
      const whole = bytesOf(v, "data");
      let bytes: Buffer;
      // A bit that changes nothing of what is decoded is no damage where the hashes are forged, too.
      do bytes = flipAt(Buffer.from(whole), between(v, from, to), v.below(8));
      while (of.encrypted !== true && v.recipients.length === 0 && decodesAlike(v, bytes));
      forgeStored(v, bytes);
    },
  },
]);

function at(from: number, length: number): { readonly from: number; readonly to: number } {
  return { from, to: from + length };
}
function inside({ from, to }: { readonly from: number; readonly to: number }): {
  readonly from: number;
  readonly to: number;
} {
  return { from: from + 6, to: to - 4 };
}
function decodesAlike(victim: Victim, bytes: Buffer): boolean {
  return victim.artifact.manifest.data.compression.frames.every((_, index) => {
    const { from, to } = frameAt(victim, index);
    const [own, changed] = [frameOf(victim, index), bytes.subarray(from, to)];
    if (own.equals(changed)) return true;
    try {
      return zstdDecompressSync(own).equals(zstdDecompressSync(changed));
    } catch {
      return false;
    }
  });
}

const small: readonly Damage[] = (["note", "extras"] as const).flatMap((kind): Damage[] => {
  const of = kind === "extras" ? { encrypted: true } : {};
  return [
    {
      name: `a bit of the ${kind} flipped`,
      of,
      found: "bytes",
      fetched: false,
      codes: damaged,
      apply: (v) => flip(v, kind, 0, bytesOf(v, kind).length),
    },
    {
      name: `the ${kind} cut off`,
      of,
      found: "manifest",
      fetched: false,
      codes: damaged,
      apply: (v) => store(v, kind, bytesOf(v, kind).subarray(0, v.below(bytesOf(v, kind).length))),
    },
    {
      name: `the ${kind} continued`,
      of,
      found: "manifest",
      fetched: false,
      codes: damaged,
      apply: (v) => store(v, kind, Buffer.concat([bytesOf(v, kind), Buffer.alloc(1 + v.below(100))])),
    },
    {
      name: `the ${kind} gone`,
      of,
      found: "manifest",
      fetched: false,
      codes: damaged,
      apply: (v) => void v.objects.delete(nameOf(v, kind)),
    },
    {
      name: `the ${kind} of no bytes`,
      of,
      found: "manifest",
      fetched: false,
      codes: damaged,
      apply: (v) => store(v, kind, Buffer.alloc(0)),
    },
    {
      name: `the ${kind} of another backup`,
      of,
      found: "bytes",
      fetched: false,
      codes: damaged,
      apply: (v) => store(v, kind, v.other.objects.get(v.other.manifest[kind]?.object ?? "")?.bytes ?? Buffer.alloc(0)),
    },
    {
      name: `a wrong SHA-256 of the ${kind}`,
      of,
      found: "bytes",
      fetched: false,
      codes: damaged,
      apply: (v) =>
        rewrite(v, (m) => ({ ...m, [kind]: { ...m[kind], sha256: digests(Buffer.from([v.below(256)])).sha256 } })),
    },
    {
      name: `a wrong size of the ${kind}`,
      of,
      found: "manifest",
      fetched: false,
      apply: (v) =>
        rewrite(v, (m) => ({
          ...m,
          [kind]: { ...m[kind], storedBytes: (m[kind]?.storedBytes ?? 0) + 1 + v.below(1000) },
        })),
    },
  ];
});

const extras: readonly Damage[] = [
  {
    name: "extras that decode to gigabytes by a forged list",
    of: { encrypted: true },
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply(v) {
      const frames = Array.from({ length: 100 }, (): [number, number] => [64 * 1024 ** 2, 6000]);
      rewrite(v, (m) => ({ ...m, extras: m.extras && { ...m.extras, frames, plainBytes: 6400 * 1024 ** 2 } }));
    },
  },
  {
    name: "extras with a wrong list of frames",
    of: { encrypted: true },
    found: "structure",
    fetched: false,
    codes: damaged,
    apply: (v) =>
      rewrite(v, (m) => {
        const [[plain, stored] = [0, 0]] = m.extras?.frames ?? [];
        const bytes = 1 + v.below(plain - 1);
        return {
          ...m,
          extras: m.extras && {
            ...m.extras,
            frames: [
              [bytes, stored - 20],
              [plain - bytes, 20],
            ],
          },
        };
      }),
  },
  {
    name: "extras for strangers",
    of: { encrypted: true },
    found: "structure",
    fetched: false,
    codes: ["key-missing"],
    async apply(v) {
      const { stored, frames } = await encodeFrames(Buffer.alloc(10_240, "x"), v.strangers);
      store(v, "extras", stored);
      const { crc32c: _, ...known } = digests(stored);
      rewrite(v, (m) => ({ ...m, extras: m.extras && { ...m.extras, ...known, frames: pairs(frames) } }));
    },
  },
];

const whole: readonly Damage[] = [
  {
    name: "the data cut off",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", bytesOf(v, "data").subarray(0, v.below(bytesOf(v, "data").length))),
  },
  {
    name: "the data without its last byte",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", bytesOf(v, "data").subarray(0, -1)),
  },
  {
    name: "the data cut off between two frames",
    of: { encrypted: false },
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", bytesOf(v, "data").subarray(0, frameAt(v, anyFrame(v)).from)),
  },
  {
    name: "the data cut off between two age chunks",
    of: { encrypted: true },
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", bytesOf(v, "data").subarray(0, payloadAt(v) + ageChunkBytes)),
  },
  {
    name: "the data continued with zeros",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", Buffer.concat([bytesOf(v, "data"), Buffer.alloc(1 + v.below(100_000))])),
  },
  {
    name: "the data stored twice, one after the other",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", Buffer.concat([bytesOf(v, "data"), bytesOf(v, "data")])),
  },
  {
    name: "data of no bytes",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", Buffer.alloc(0)),
  },
  {
    name: "no data",
    found: "manifest",
    fetched: true,
    codes: ["object-damaged", "store-object-missing"],
    apply: (v) => void v.objects.delete(nameOf(v, "data")),
  },
  {
    name: "the data of another backup",
    found: "bytes",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", v.other.objects.get(v.other.manifest.data.object)?.bytes ?? Buffer.alloc(0)),
  },
  {
    name: "data and note swapped",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply(v) {
      const [data, note] = [bytesOf(v, "data"), bytesOf(v, "note")];
      store(v, "data", note);
      store(v, "note", data);
    },
  },
  {
    name: "a range of zeros in the data",
    found: "bytes",
    fetched: true,
    codes: damaged,
    apply(v) {
      const bytes = bytesOf(v, "data");
      const from = v.below(bytes.length - 600);
      store(v, "data", bytes.fill(0, from, from + 512));
    },
  },
  {
    name: "a sector of the data stored at a wrong place",
    found: "bytes",
    fetched: true,
    codes: damaged,
    apply(v) {
      const bytes = bytesOf(v, "data");
      const half = bytes.length >> 1;
      bytes.copyWithin(half + v.below(half - 600), v.below(half - 600), v.below(half - 600) + 512);
      flipAt(bytes, half, 0);
      store(v, "data", bytes);
    },
  },
  {
    name: "the data shifted by a byte",
    found: "bytes",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", Buffer.concat([bytesOf(v, "data").subarray(1), Buffer.from([v.below(256)])])),
  },
  {
    name: "the plain snapshot in place of the data",
    found: "manifest",
    fetched: true,
    codes: damaged,
    apply: (v) => store(v, "data", v.artifact.plain),
  },
];

const frames: readonly Damage[] = [
  {
    name: "two frames swapped",
    found: "structure",
    fetched: true,
    codes: damaged,
    async apply(v) {
      const list = framesOf(v);
      const [a, b] = twoDifferent(v, list);
      [list[a], list[b]] = [list[b] as (typeof list)[0], list[a] as (typeof list)[0]];
      await forgeFrames(v, list);
    },
  },
  {
    name: "two frames swapped, and not their sizes",
    found: "structure",
    fetched: true,
    codes: damaged,
    async apply(v) {
      const list = framesOf(v);
      const [a, b] = twoDifferent(v, list);
      [list[a], list[b]] = [list[b] as (typeof list)[0], list[a] as (typeof list)[0]];
      await forgeFrames(v, list, { compression: v.artifact.manifest.data.compression });
    },
  },
  {
    name: "a frame left out",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => forgeFrames(v, without(framesOf(v), anyFrame(v))),
  },
  {
    name: "a frame left out, and the sizes made to fit",
    found: "structure",
    fetched: true,
    codes: damaged,
    async apply(v) {
      const list = without(framesOf(v), anyFrame(v));
      const plainBytes = list.reduce((sum, frame) => sum + frame.plainBytes, 0);
      changeContent(v, { dbBytes: plainBytes - 32 });
      await forgeFrames(v, list, { plainBytes });
    },
  },
  {
    name: "a frame stored twice",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) =>
      forgeFrames(
        v,
        framesOf(v).flatMap((frame, index) => (index === 1 ? [frame, frame] : [frame])),
      ),
  },
  {
    name: "a frame in place of its neighbour",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply(v) {
      const list = framesOf(v);
      const [a, b] = twoDifferent(v, list);
      list[a] = list[b] as (typeof list)[0];
      const plainBytes = list.reduce((sum, frame) => sum + frame.plainBytes, 0);
      changeContent(v, { dbBytes: plainBytes - 32 });
      return forgeFrames(v, list, { plainBytes });
    },
  },
  {
    name: "an empty list of frames",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => changeData(v, { compression: { format: "zstd", frames: [] } }),
  },
  {
    name: "a byte more in a frame and one less in the next",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => moveByte(v, 0),
  },
  {
    name: "a stored byte more in a frame and one less in the next",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => moveByte(v, 1),
  },
  {
    name: "a list of frames that adds up to more",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) =>
      changeData(v, {
        compression: { format: "zstd", frames: [...v.manifest.data.compression.frames, [1 + v.below(1000), 20]] },
      }),
  },
  {
    name: "frames that are listed with gigabytes",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) =>
      changeData(v, {
        compression: {
          format: "zstd",
          frames: v.manifest.data.compression.frames.map(([, stored]) => [2 ** 40, stored]),
        },
      }),
  },
  {
    name: "rubbish after the last frame, listed in it",
    found: "structure",
    fetched: true,
    codes: damaged,
    async apply(v) {
      const list = framesOf(v);
      const last = list.at(-1);
      if (last !== undefined) last.bytes = Buffer.concat([last.bytes, Buffer.alloc(1 + v.below(60), 7)]);
      await forgeFrames(v, list);
    },
  },
  {
    name: "rubbish after the last frame, listed nowhere",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    async apply(v) {
      const stored = await encrypt(
        Buffer.concat([v.artifact.compressed, Buffer.alloc(1 + v.below(60), 7)]),
        v.recipients,
      );
      forgeStored(v, stored);
    },
  },
  {
    name: "a frame that decodes to more than it says: gigabytes",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, (bytes) => bomb(contentBytes(bytes), 8192 + v.below(4096))),
  },
  {
    name: "a frame that says and decodes to gigabytes",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, () => bomb(2 ** 30, 8192)),
  },
  {
    name: "a whole frame of 48 MiB where a small one is listed",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, () => zeros(48 * 1024 ** 2)),
  },
  {
    name: "a frame that asks for a huge window",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, hugeWindow),
  },
  {
    name: "a frame with a reserved bit",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, (bytes) => flipAt(bytes, 4, 3 + v.below(2))),
  },
  {
    name: "a frame without a checksum",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, (bytes) => flipAt(bytes, 4, 2)),
  },
  {
    name: "a frame that asks for a dictionary",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, (bytes) => flipAt(bytes, 4, v.below(2))),
  },
  {
    name: "a frame that is to be skipped",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) =>
      forgeFrame(v, (bytes) => {
        bytes.writeUInt32LE(0x184d2a50, 0);
        bytes.writeUInt32LE(bytes.length - 8, 4);
        return bytes;
      }),
  },
  {
    name: "a frame cut off",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, (bytes) => bytes.subarray(0, 1 + v.below(bytes.length - 1))),
  },
  {
    name: "an empty frame",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, () => zeros(0)),
  },
  {
    name: "a frame of random bytes",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeFrame(v, (bytes) => bytes.map(() => v.below(256))),
  },
];

function twoDifferent(victim: Victim, list: readonly { readonly bytes: Buffer }[]): readonly [number, number] {
  for (;;) {
    // Ends: the fixtures have frames of many contents.
    const [a, b] = [victim.below(list.length), victim.below(list.length)];
    if (list[a]?.bytes.equals(list[b]?.bytes ?? Buffer.alloc(0)) === false) return [a, b];
  }
}
function without<T>(list: readonly T[], index: number): T[] {
  return list.filter((_, at) => at !== index);
}
function contentBytes(frame: Buffer): number {
  return zstdDecompressSync(frame).length;
}
function moveByte(victim: Victim, which: 0 | 1): void {
  const frames = structuredClone(victim.manifest.data.compression.frames);
  const at = victim.below(frames.length - 1);
  const [one, next] = [frames[at], frames[at + 1]];
  if (one !== undefined && next !== undefined) {
    one[which] += 1;
    next[which] -= 1;
  }
  changeData(victim, { compression: { format: "zstd", frames } });
}
/** The same frame with a window of its own instead of one as large as its content. */
function hugeWindow(frame: Buffer): Buffer {
  const size = zstdDecompressSync(frame).length;
  const head = Buffer.alloc(14);
  head.writeUInt32LE(0xfd2fb528, 0);
  head[4] = 0b1100_0100;
  head[5] = 0xa8; // 2 GiB
  head.writeBigUInt64LE(BigInt(size), 6);
  const flag = (frame[4] ?? 0) >> 6;
  const single = ((frame[4] ?? 0) & 0x20) !== 0;
  const from = 5 + (single ? 0 : 1) + (flag === 0 && !single ? 0 : 1 << flag);
  return Buffer.concat([head, frame.subarray(from)]);
}

const age: readonly Damage[] = [
  {
    name: "data for strangers, in a manifest that fits",
    of: { encrypted: true },
    found: "structure",
    fetched: true,
    codes: ["key-missing"],
    async apply(v) {
      // As many recipients, so that sizes fit.
      forgeStored(v, await encrypt(v.artifact.compressed, v.strangers));
    },
  },
  {
    name: "two age chunks swapped",
    of: { encrypted: true },
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeChunks(v, ([first, second, ...rest]) => [second, first, ...rest]),
  },
  {
    name: "an age chunk in place of the next",
    of: { encrypted: true },
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeChunks(v, ([first, , ...rest]) => [first, first, ...rest]),
  },
  {
    name: "an age chunk given twice",
    of: { encrypted: true },
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => forgeChunks(v, ([first, ...rest]) => [first, first, ...rest]),
  },
  {
    name: "an age chunk left out",
    of: { encrypted: true },
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => forgeChunks(v, ([, ...rest]) => rest),
  },
  {
    name: "the age chunks of another backup behind this header",
    of: { encrypted: true },
    found: "structure",
    fetched: true,
    apply(v) {
      const own = bytesOf(v, "data");
      const others = Buffer.from(v.other.objects.get(v.other.manifest.data.object)?.bytes ?? []);
      forgeStored(v, Buffer.concat([own.subarray(0, payloadAt(v)), others.subarray(payloadAt(v))]));
    },
  },
  {
    name: "data that is not encrypted though the manifest says so",
    of: { encrypted: true },
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => forgeStored(v, v.artifact.compressed),
  },
  {
    name: "encrypted data where the manifest says that it is plain",
    of: { encrypted: true },
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => changeData(v, { encryption: null }),
  },
];

function forgeChunks(victim: Victim, change: (chunks: Uint8Array[]) => (Uint8Array | undefined)[]): void {
  const bytes = bytesOf(victim, "data");
  const from = payloadAt(victim);
  const chunks: Uint8Array[] = [];
  for (let at = from; at < bytes.length; at += ageChunkBytes) chunks.push(bytes.subarray(at, at + ageChunkBytes));
  forgeStored(
    victim,
    Buffer.concat([bytes.subarray(0, from), ...change(chunks).map((chunk) => chunk ?? Buffer.alloc(0))]),
  );
}

const database: readonly Damage[] = [
  {
    name: "a value changed, and the seal with it",
    found: "deep",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeDatabase(v, withValue(v, "abcdefghij")),
  },
  {
    name: "a value of an old row changed, and the seal with it",
    found: "deep",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeDatabase(v, withValue(v, "0123456789")),
  },
  {
    name: "a wrong HashKV",
    found: "deep",
    fetched: true,
    codes: damaged,
    apply: (v) => changeContent(v, { hashKv: (v.manifest.content.hashKv ^ (1 << v.below(31))) >>> 0 }),
  },
  {
    name: "another database under this manifest, sealed",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeDatabase(v, v.other.plain),
  },
  {
    name: "the database of another backup, as its manifest lists it",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply(v) {
      const { data } = v.other.manifest;
      store(v, "data", v.other.objects.get(data.object)?.bytes ?? Buffer.alloc(0));
      changeContent(v, { dbBytes: v.other.manifest.content.dbBytes });
      changeData(v, { ...data, object: v.artifact.manifest.data.object });
    },
  },
  {
    name: "a bit of the database flipped under the old seal",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) =>
      forgeEncoded(v, flipAt(Buffer.from(v.artifact.plain), v.below(v.artifact.plain.length - 32), v.below(8))),
  },
  {
    name: "a bit of the seal flipped",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) =>
      forgeEncoded(v, flipAt(Buffer.from(v.artifact.plain), v.artifact.plain.length - 1 - v.below(32), v.below(8))),
  },
  {
    name: "no seal after the database",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => forgeEncoded(v, Buffer.concat([v.artifact.plain.subarray(0, -32), Buffer.alloc(32)])),
  },
  {
    name: "the manifest's seal changed",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) => changeContent(v, { seal: digests(Buffer.from([v.below(256)])).sha256 }),
  },
  {
    name: "the root page overwritten, and the seal with it",
    found: "structure",
    fetched: true,
    codes: ["bolt-corrupt"],
    apply: (v) => forgeDatabase(v, overwritten(v, "root")),
  },
  {
    name: "both meta pages overwritten, and the seal with them",
    found: "structure",
    fetched: true,
    codes: ["bolt-corrupt"],
    apply: (v) => forgeDatabase(v, overwritten(v, "meta")),
  },
  {
    name: "half of the database, sealed",
    found: "structure",
    fetched: true,
    codes: ["bolt-corrupt"],
    apply: (v) => {
      const pages = Math.floor(v.artifact.plain.length / 4096 / 2);
      return forgeDatabase(v, sealAgain(Buffer.concat([v.artifact.plain.subarray(0, pages * 4096), Buffer.alloc(32)])));
    },
  },
  {
    name: "no database but its seal",
    found: "structure",
    fetched: true,
    codes: ["bolt-corrupt"],
    apply: (v) => forgeDatabase(v, sealAgain(Buffer.alloc(32))),
  },
];

/** Other plain bytes, with a manifest that fits in sizes and hashes. */
async function forgeEncoded(victim: Victim, plain: Uint8Array): Promise<void> {
  const { stored, frames } = await encodeFrames(plain, victim.recipients);
  store(victim, "data", stored);
  changeData(victim, { ...digests(stored), compression: { format: "zstd", frames: pairs(frames) } });
}

/** The database with one byte of a large value changed, sealed again. */
function withValue(victim: Victim, pattern: string): Buffer {
  const plain = Buffer.from(victim.artifact.plain);
  // A large value stands once in use and may stand in free pages, too: all copies are changed.
  const mark = Buffer.from(pattern.repeat(20));
  let at = plain.indexOf(mark);
  if (at < 0) throw new Error(`the fixture has no value of ${pattern}`);
  const offset = victim.below(mark.length);
  for (; at >= 0; at = plain.indexOf(mark, at + mark.length)) plain[at + offset] = 0x5a;
  return sealAgain(plain);
}

function overwritten(victim: Victim, what: "root" | "meta"): Buffer {
  const plain = Buffer.from(victim.artifact.plain);
  const pageBytes = plain.readUInt32LE(16 + 8);
  if (what === "meta")
    for (const page of [0, 1]) plain.fill(victim.below(256), page * pageBytes + 16 + 32, page * pageBytes + 80);
  else
    for (const page of [0, 1])
      plain.fill(
        0xee,
        Number(plain.readBigUInt64LE(page * pageBytes + 32)) * pageBytes,
        Number(plain.readBigUInt64LE(page * pageBytes + 32)) * pageBytes + 64,
      );
  return sealAgain(plain);
}

const content: readonly Damage[] = (
  [
    ["revision", (c) => ({ revision: c.revision + 1n })],
    ["compaction", (c) => ({ compactRevision: c.compactRevision - 1n })],
    ["consistent index", (c) => ({ consistentIndex: c.consistentIndex + 1n })],
    ["term", (c) => ({ term: (c.term ?? 0n) + 1n })],
    ["storage version", () => ({ storageVersion: "3.9.0" })],
    ["cluster version", () => ({ clusterVersion: "3.9.0" })],
    ["number of keys", (c) => ({ keys: c.keys - 1 })],
    ["number of rows", (c) => ({ rows: c.rows + 1 })],
    ["number of leases", (c) => ({ leases: c.leases + 1 })],
    ["authentication", (c) => ({ authEnabled: !c.authEnabled })],
    ["members", () => ({ members: [] })],
    ["alarms", () => ({ alarms: [] })],
  ] satisfies [string, (content: Manifest["content"]) => Partial<Manifest["content"]>][]
).map(([what, change]): Damage => ({
  name: `a wrong ${what} in the manifest`,
  found: "structure",
  fetched: true,
  codes: damaged,
  apply: (v) => changeContent(v, change(v.manifest.content)),
}));

const manifest: readonly Damage[] = [
  ...content,
  {
    name: "a wrong SHA-256 of the data",
    found: "bytes",
    fetched: true,
    codes: damaged,
    apply: (v) => changeData(v, { sha256: digests(Buffer.from([v.below(256)])).sha256 }),
  },
  {
    name: "a wrong stored size of the data",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => changeData(v, { storedBytes: v.manifest.data.storedBytes + 1 + v.below(1000) }),
  },
  {
    name: "a stored size of petabytes",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => changeData(v, { storedBytes: 2 ** 52 }),
  },
  {
    name: "a wrong plain size",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => changeData(v, { plainBytes: v.manifest.data.plainBytes + 1 + v.below(1000) }),
  },
  {
    name: "a wrong size of the database",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => changeContent(v, { dbBytes: v.manifest.content.dbBytes - 4096 }),
  },
  {
    name: "wrong sizes of database and snapshot",
    found: "manifest",
    fetched: true,
    codes: contradictory,
    apply: (v) => {
      changeContent(v, { dbBytes: 2 ** 50 });
      changeData(v, { plainBytes: 2 ** 50 + 32 });
    },
  },
  {
    name: "a sampled row with another hash",
    found: "structure",
    fetched: true,
    codes: damaged,
    apply: (v) =>
      rewrite(v, (m) => ({
        ...m,
        samples: m.samples.map((row, at) => (at === 0 ? { ...row, sha256: "0".repeat(64) } : row)),
      })),
  },
  {
    name: "the objects of another backup under this manifest",
    found: "bytes",
    fetched: true,
    codes: ["object-damaged", "manifest-invalid"],
    apply(v) {
      for (const kind of ["data", "note"] as const)
        v.objects.set(
          v.other.manifest[kind].object,
          v.other.objects.get(v.other.manifest[kind].object) ?? { bytes: Buffer.alloc(0), modifiedMs: 0 },
        );
      rewrite(v, (m) => ({
        ...m,
        data: { ...m.data, object: v.other.manifest.data.object },
        note: { ...m.note, object: v.other.manifest.note.object },
      }));
    },
  },
  {
    name: "an object of another lineage in the manifest",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) =>
      changeData(v, {
        object: v.manifest.data.object.replace(/^lineages\/\w+/, "lineages/01JQFFFFFFFFFFFFFFFFFFFFFF"),
      }),
  },
  {
    name: "an object outside of the repository in the manifest",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) =>
      putManifest(v, Buffer.from(manifestBytes(v).toString().replaceAll(v.manifest.data.object, "../../etc/shadow"))),
  },
  {
    name: "the manifest of another backup under this name",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) =>
      putManifest(
        v,
        v.other.objects.get(manifestName(v.other.listed.lineage, v.other.listed.backup))?.bytes ?? Buffer.alloc(0),
      ),
  },
  {
    name: "the manifest cut off",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, manifestBytes(v).subarray(0, v.below(manifestBytes(v).length - 1))),
  },
  {
    name: "a manifest of no bytes",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, Buffer.alloc(0)),
  },
  {
    name: "a manifest that nests a hundred thousand times",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, Buffer.from("[".repeat(100_000))),
  },
  {
    name: "a manifest of rubbish",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, Buffer.from(Array.from({ length: 500 }, () => v.below(256)))),
  },
  {
    name: "a manifest with a field of a later format",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, Buffer.from(manifestBytes(v).toString().replace("{", '{"later":1,'))),
  },
  {
    name: "a size that is no number",
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) =>
      putManifest(
        v,
        Buffer.from(
          manifestBytes(v)
            .toString()
            .replace(
              /"plainBytes":\d+/,
              ['"plainBytes":-1', '"plainBytes":1e400', '"plainBytes":"1"', '"plainBytes":0.5'][v.below(4)] ?? "",
            ),
        ),
      ),
  },
  ...[
    "a bit of the signed manifest flipped",
    "another bit of the signed manifest flipped",
    "one more bit of the signed manifest flipped",
  ].map((name): Damage => ({
    name,
    of: { signed: true },
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, flipAt(manifestBytes(v), v.below(manifestBytes(v).length), v.below(8))),
  })),
  {
    name: "the manifest without its signature",
    of: { signed: true },
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, writeManifest(v.manifest, undefined)),
  },
  {
    name: "the manifest signed by a stranger",
    of: { signed: true },
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) => putManifest(v, writeManifest(v.manifest, v.strange)),
  },
  {
    name: "a signature that is spelled in another way",
    of: { signed: true },
    found: "belief",
    fetched: true,
    codes: refused,
    apply: (v) =>
      putManifest(
        v,
        Buffer.from(
          manifestBytes(v)
            .toString()
            .replace(/([AQgw])==/, (_, last: string) => `${{ A: "B", Q: "R", g: "h", w: "x" }[last] ?? ""}==`),
        ),
      ),
  },
];

export const damages: readonly Damage[] = [
  ...sameSize,
  ...small,
  ...extras,
  ...whole,
  ...frames,
  ...age,
  ...database,
  ...manifest,
];
