import { Fault } from "../faults.ts";
import { corrupt } from "./corrupt.ts";
import type { DatabaseFile } from "./file.ts";
import { pageHeaderBytes, pageKinds } from "./page.ts";
import { readPageNumber } from "./words.ts";

/** What the winning meta page says of the whole file. */
export interface Meta {
  readonly pageBytes: number;
  /** Root page of the bucket that holds all buckets. */
  readonly rootPage: number;
  /** Undefined: the file was written without its freelist (etcd's NoFreelistSync). */
  readonly freelistPage: number | undefined;
  /** The high-water mark: pages from here on do not exist. */
  readonly pages: number;
  readonly txid: bigint;
  /** The other meta page, when it is not valid: this one was taken in its place, as bbolt does. */
  readonly brokenMeta: 0 | 1 | undefined;
}

export const magic = 0xed0cdaed;
export const version = 2;
export const metaBytes = 64;
export const checksumAt = 56;
export const noFreelist = 0xffff_ffff_ffff_ffffn;
/** bbolt takes the page size of the machine: 4, 16 or 64 KiB in practice; the bounds are those of its tests. */
const smallestPageBytes = 1024;
const largestPageBytes = 65536;

type Candidate = Omit<Meta, "brokenMeta">;

/** Reads both meta pages; of the valid ones, the higher transaction wins (bbolt db.go, meta()). Fault `bolt-corrupt` when none is usable. */
export function readMeta(file: DatabaseFile): Meta {
  const [first, second] = readBoth(file);
  if (typeof first === "string" && typeof second === "string") {
    throw new Fault(
      "bolt-corrupt",
      `page 0: ${first}; page 1: ${second}: no usable meta page, not a bbolt database or a damaged one`,
    );
  }
  let meta: Meta;
  if (typeof first === "string") meta = { ...usable(second), brokenMeta: 0 };
  else if (typeof second === "string") meta = { ...first, brokenMeta: 1 };
  else meta = { ...(second.txid > first.txid ? second : first), brokenMeta: undefined };
  checkAgainstFile(meta, file);
  return meta;
}

function usable(candidate: Candidate | string): Candidate {
  if (typeof candidate === "string") throw new Fault("bolt-corrupt", candidate);
  return candidate;
}

function readBoth(file: DatabaseFile): [Candidate | string, Candidate | string] {
  const first = readOne(file, 0, 0);
  if (typeof first !== "string") return [first, readOne(file, 1, first.pageBytes)];
  // Without the first meta page nothing says where the second one is: look at each place where it can be.
  let why = "no meta page found";
  for (let pageBytes = smallestPageBytes; pageBytes <= largestPageBytes; pageBytes *= 2) {
    const second = readOne(file, 1, pageBytes);
    if (typeof second !== "string") return [first, second];
    if (pageBytes === 4096) why = second;
  }
  return [first, why];
}

/** The meta page at `offset`, or why it is not valid. */
function readOne(file: DatabaseFile, id: 0 | 1, offset: number): Candidate | string {
  const bytes = new Uint8Array(pageHeaderBytes + metaBytes);
  if (offset + bytes.length > file.dbBytes) return "the file ends before it";
  file.read(bytes, 0, bytes.length, offset);
  const view = new DataView(bytes.buffer);
  if (view.getUint32(16, true) !== magic) return "no bbolt magic";
  if (view.getUint32(20, true) !== version)
    return `bbolt version ${view.getUint32(20, true)}, only ${version} is known`;
  if (view.getBigUint64(pageHeaderBytes + checksumAt, true) !== fnv1a64(bytes.subarray(16, 16 + checksumAt)))
    return "checksum differs";
  const pageBytes = view.getUint32(24, true);
  if (pageBytes < smallestPageBytes || pageBytes > largestPageBytes || (pageBytes & (pageBytes - 1)) !== 0) {
    return `page size ${pageBytes} is no power of two from ${smallestPageBytes} to ${largestPageBytes}`;
  }
  if (id === 1 && pageBytes !== offset) return `page size ${pageBytes} does not fit its place at ${offset}`;
  // The checksum covers the meta only. A sound meta under a wrong header is damage that bbolt check refuses too.
  if (view.getBigUint64(0, true) !== BigInt(id))
    throw corrupt(id, `its header says page ${view.getBigUint64(0, true)}`);
  if (view.getUint16(8, true) !== pageKinds.meta)
    throw corrupt(id, `its header has kind ${view.getUint16(8, true)}, not meta`);
  return {
    pageBytes,
    rootPage: readPageNumber(view, 32),
    freelistPage: view.getBigUint64(48, true) === noFreelist ? undefined : readPageNumber(view, 48),
    pages: readPageNumber(view, 56),
    txid: view.getBigUint64(64, true),
  };
}

function checkAgainstFile(meta: Meta, file: DatabaseFile): void {
  const { pageBytes, pages, rootPage, freelistPage } = meta;
  const whole = Math.floor(file.dbBytes / pageBytes);
  if (pages > whole)
    throw corrupt(
      whole,
      `the file ends here, but its meta page (transaction ${meta.txid}) counts ${pages} pages: truncated`,
    );
  if (whole * pageBytes !== file.dbBytes) throw corrupt(whole, "the file ends inside this page: truncated");
  if (rootPage < 2 || rootPage >= pages) throw corrupt(rootPage, `the root page is not among the ${pages} pages`);
  if (freelistPage !== undefined && (freelistPage < 2 || freelistPage >= pages)) {
    throw corrupt(freelistPage, `the freelist page is not among the ${pages} pages`);
  }
}

/** FNV-1a, 64 bits: the checksum of a meta page. */
export function fnv1a64(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}
