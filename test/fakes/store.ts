import { createHash } from "node:crypto";
import { Fault, throwIfAborted } from "../../src/faults.ts";
import { crc32c } from "../../src/crc32c.ts";
import { isObjectName, maximumDocumentBytes } from "../../src/store/store.ts";
import type { ObjectEntry, Store } from "../../src/store/store.ts";

export type StoreMethod = "create" | "upload" | "read" | "download" | "head" | "list" | "remove" | "sweep" | "now";

/** What is to happen to one call: before it, instead of it, or after it was carried out. */
export interface StoreTrouble {
  readonly method: StoreMethod;
  /** The first call of the method is 1; every call when absent. */
  readonly nth?: number;
  /** Only calls whose name (or prefix) contains this. */
  readonly name?: string;
  /** Rejects with this, without carrying the call out. */
  readonly fail?: Error;
  /** Carries the call out and then rejects with this: a reply that was lost. */
  readonly loseReply?: Error;
  /** Waits for this first. */
  readonly delay?: Promise<unknown>;
}

export interface MemoryStore extends Store {
  /** What is stored, by name. Change it to make damage. */
  readonly objects: Map<string, { bytes: Uint8Array; modifiedMs: number }>;
  /** Adds trouble; the returned function says how often it has struck. */
  readonly trouble: (trouble: StoreTrouble) => () => number;
  /** Every call so far, oldest first. */
  readonly calls: { readonly method: StoreMethod; readonly name: string }[];
}

/** A store in memory that keeps the whole contract, and can be made to fail. */
export function memoryStore(now: () => number = Date.now): MemoryStore {
  const objects = new Shelf();
  const calls: { method: StoreMethod; name: string }[] = [];
  const troubles: { trouble: StoreTrouble; seen: number; struck: number }[] = [];

  const run = async <T>(
    method: StoreMethod,
    name: string,
    signal: AbortSignal,
    act: () => T | Promise<T>,
  ): Promise<T> => {
    throwIfAborted(signal);
    if (method !== "list" && method !== "sweep" && method !== "now" && !isObjectName(name)) {
      throw new Fault("store-refused", `not an object name: ${JSON.stringify(name.slice(0, 80))}`);
    }
    calls.push({ method, name });
    let lost: Error | undefined;
    for (const entry of troubles) {
      const { trouble } = entry;
      if (trouble.method !== method || !name.includes(trouble.name ?? "")) continue;
      entry.seen += 1;
      if (trouble.nth !== undefined && trouble.nth !== entry.seen) continue;
      entry.struck += 1;
      await trouble.delay;
      throwIfAborted(signal);
      if (trouble.fail !== undefined) throw trouble.fail;
      lost ??= trouble.loseReply;
    }
    const result = await act();
    if (lost !== undefined) throw lost;
    return result;
  };

  const put = (name: string, bytes: Uint8Array): boolean => {
    if (objects.has(name)) return false;
    const parents = name.split("/").map((_, at, segments) => segments.slice(0, at).join("/"));
    const inTheWay = parents.some((parent) => objects.has(parent)) || objects.isFolder(name);
    if (inTheWay) throw new Fault("store-exists", `${name}: an object is in the way`);
    objects.set(name, { bytes: Uint8Array.from(bytes), modifiedMs: now() });
    return true;
  };
  const get = (name: string): Uint8Array => {
    const found = objects.get(name);
    if (found === undefined) throw new Fault("store-object-missing", `${name} does not exist`);
    return found.bytes;
  };

  return {
    description: "memory:",
    objects,
    calls,
    trouble: (trouble) => {
      const entry = { trouble, seen: 0, struck: 0 };
      troubles.push(entry);
      return () => entry.struck;
    },

    create: async (name, body, signal) =>
      await run("create", name, signal, () => {
        if (body.length > maximumDocumentBytes) throw new Fault("store-damaged", `${name} is too large for a document`);
        if (!put(name, body) && Buffer.compare(get(name), body) !== 0) {
          throw new Fault("store-exists", `${name} exists already, with other bytes`);
        }
      }),

    upload: async (name, source, signal) =>
      await run("upload", name, signal, async () => {
        const chunks: Uint8Array[] = [];
        for await (const chunk of source) {
          throwIfAborted(signal);
          chunks.push(Uint8Array.from(chunk));
        }
        throwIfAborted(signal);
        const bytes = Buffer.concat(chunks);
        if (!put(name, bytes)) throw new Fault("store-exists", `${name} exists already`);
        const sha256 = createHash("sha256").update(bytes).digest("hex");
        return { storedBytes: bytes.length, sha256, crc32c: crc32c(bytes) };
      }),

    read: async (name, signal) =>
      await run("read", name, signal, () => {
        const bytes = get(name);
        if (bytes.length > maximumDocumentBytes)
          throw new Fault("store-damaged", `${name} is too large for a document`);
        return Uint8Array.from(bytes);
      }),

    async *download(name, signal) {
      const bytes = await run("download", name, signal, () => get(name));
      for (let at = 0; at < bytes.length; at += 65_536) {
        throwIfAborted(signal);
        yield Uint8Array.from(bytes.subarray(at, at + 65_536));
      }
    },

    head: async (name, signal) =>
      await run("head", name, signal, () => {
        const found = objects.get(name);
        return found && { storedBytes: found.bytes.length, crc32c: crc32c(found.bytes) };
      }),

    async *list(range, signal) {
      const { prefix, after } = typeof range === "string" ? { prefix: range, after: "" } : range;
      const entries = await run("list", prefix, signal, () => entriesOf(objects, prefix, after));
      for (const entry of entries) {
        throwIfAborted(signal);
        yield entry;
      }
    },

    remove: async (name, signal) => {
      await run("remove", name, signal, () => objects.delete(name));
    },

    sweep: async (_olderThanMs, signal) => await run("sweep", "", signal, () => 0),

    now: async (signal) => await run("now", "", signal, now),
  };
}

/** Objects with an index of their folders: whoever asks about one of them does not walk through a year of others. */
class Shelf extends Map<string, { bytes: Uint8Array; modifiedMs: number }> {
  /** What is directly in each folder, by whole names; "" is the uppermost. */
  readonly #folders = new Map<string, Set<string>>();

  override set(name: string, object: { bytes: Uint8Array; modifiedMs: number }): this {
    for (let path = name; path !== ""; path = folderOf(path)) {
      const beside = this.#folders.get(folderOf(path));
      beside?.add(path);
      if (beside !== undefined) break;
      this.#folders.set(folderOf(path), new Set([path]));
    }
    return super.set(name, object);
  }

  override delete(name: string): boolean {
    const deleted = super.delete(name);
    for (let path = name; deleted && path !== "" && !this.isFolder(path); path = folderOf(path)) {
      const beside = this.#folders.get(folderOf(path));
      beside?.delete(path);
      if (beside === undefined || beside.size > 0) break;
      this.#folders.delete(folderOf(path));
    }
    return deleted;
  }

  override clear(): void {
    this.#folders.clear();
    super.clear();
  }

  isFolder(name: string): boolean {
    return this.#folders.has(name);
  }

  /** In no order. */
  *under(prefix: string, folder = folderOf(prefix)): Generator<[string, { bytes: Uint8Array; modifiedMs: number }]> {
    for (const path of this.#folders.get(folder) ?? []) {
      if (!path.startsWith(prefix) && !prefix.startsWith(`${path}/`)) continue;
      const object = this.get(path);
      if (object !== undefined) yield [path, object];
      if (this.isFolder(path)) yield* this.under(prefix, path);
    }
  }
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function entriesOf(objects: Shelf, prefix: string, after: string): ObjectEntry[] {
  return [...objects.under(prefix)]
    .filter(([name]) => name.startsWith(prefix) && name > after)
    .map(([name, { bytes, modifiedMs }]) => ({ name, storedBytes: bytes.length, modifiedMs, tag: tagOf(bytes) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** One for each array that ever was an object's bytes. */
const tags = new WeakMap<Uint8Array, string>();
let lastTag = 0;
function tagOf(bytes: Uint8Array): string {
  const tag = tags.get(bytes) ?? `tag-${(lastTag += 1)}`;
  tags.set(bytes, tag);
  return tag;
}
