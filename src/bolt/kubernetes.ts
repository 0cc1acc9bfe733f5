import { openDatabaseFile, type DatabaseFile } from "./file.ts";
import { KeyDigest } from "./key-digest.ts";
import { readMeta } from "./meta.ts";
import { NewestRows, absent, deleted } from "./newest-rows.ts";
import type { Page } from "./page.ts";
import { Pager } from "./pager.ts";
import { Row } from "./row.ts";
import { walkBucket, type Visitor } from "./walk.ts";

/** What a database holds of a Kubernetes cluster that is old as soon as it is restored, or needs something outside of it to be read. */
export interface KubernetesFacts {
  /** Live keys below the prefix of the API servers; 0: none wrote here. */
  readonly objects: number;
  /** Addresses of API servers that were alive then, sorted; at most 1000. */
  readonly masterLeases: readonly string[];
  /** Lease objects outside of the nodes' namespace, as `NAMESPACE/NAME`, sorted; at most 1000. Leaders of controllers are elected by them. */
  readonly leases: readonly string[];
  /** Lease objects of nodes. */
  readonly nodeLeases: number;
  /** What API servers have encrypted, by resource and key; at most 256 of them, each with its live objects. */
  readonly encrypted: readonly {
    readonly resource: string;
    /** As the value says it: `aescbc:v1:key1`. */
    readonly key: string;
    readonly objects: number;
  }[];
}

/** kube-apiserver's --etcd-prefix by default. */
const usualPrefix = "/registry/";
/** Every cluster has this namespace, so that the key tells under which prefix its API servers write. */
const everyones = "namespaces/kube-system";
const everyonesEnd = Buffer.from(`/${everyones}`);
const masterLeases = "masterleases/";
const leases = "leases/";
const nodeNamespace = "kube-node-lease/";
/** k8s.io/apiserver storage/value/encrypt: `k8s:enc:PROVIDER:VERSION:KEY:`. */
const encryptedMark = Buffer.from("k8s:enc:");
const markBytes = 160;
const mostNames = 1000;
const mostLabels = 256;
const mostPrefixes = 100;
const longestName = 1000;

/**
 * Reads the rows of bucket `key` once, and once more where API servers write below another prefix than the usual one. Synchronous, for a worker thread; some 30 bytes per
 * key below the prefix. Faults are those of a scan.
 */
export function surveyKubernetes(path: string): KubernetesFacts {
  using file = openDatabaseFile(path, undefined);
  const usual = surveyBelow(file, usualPrefix);
  const prefix = usual.prefixSeen();
  return (prefix === undefined || prefix === usualPrefix ? usual : surveyBelow(file, prefix)).facts();
}

function surveyBelow(file: DatabaseFile, prefix: string): Survey {
  const meta = readMeta(file);
  const survey = new Survey(prefix);
  walkBucket(new Pager(file, meta), { kind: "tree", root: meta.rootPage }, 0, {
    plain: false,
    row: () => undefined,
    bucket(page, keyAt, keyBytes, bucket, level) {
      if (Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)).toString() !== "key") return;
      // A pager of its own: the outer one holds the page that is being walked.
      walkBucket(new Pager(file, meta), bucket, level, survey);
    },
  });
  return survey;
}

class Survey implements Visitor {
  readonly plain = true;
  readonly #prefix: string;
  readonly #prefixBytes: Uint8Array;
  /** Those under which the namespace that every cluster has is alive, by when it was written last. */
  readonly #prefixesSeen = new Set<string>();
  readonly #row = new Row();
  readonly #digest = new KeyDigest();
  /** By key, the number of what its newest value is encrypted with; 0: with nothing. */
  readonly #newest = new NewestRows();
  readonly #labels = new Map<string, number>([["", 0]]);
  readonly #counts: number[] = [0];
  readonly #masterLeases = new Set<string>();
  readonly #leases = new Set<string>();
  readonly #nodeLeases = new Set<string>();

  constructor(prefix: string) {
    this.#prefix = prefix;
    this.#prefixBytes = Buffer.from(prefix);
  }

  /** Where the namespace that every cluster has was written last, and not as the name of something below another prefix; undefined where there is none. */
  prefixSeen(): string | undefined {
    const seen = [...this.#prefixesSeen];
    return seen.findLast((prefix) => !seen.some((other) => other !== prefix && prefix.startsWith(other)));
  }

  row(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    const row = this.#row;
    row.decode(page, keyAt, keyBytes, valueAt, valueBytes);
    const { bytes, view } = page;
    const { userKeyAt: at, userKeyBytes: length, tombstone } = row;
    if (length <= longestName && endsWith(bytes, at, length, everyonesEnd))
      this.#see(textAt(bytes, at, length - everyones.length), tombstone);
    if (!startsWith(bytes, at, length, this.#prefixBytes)) return;
    this.#digest.take(bytes, view, at, length);
    const before = this.#newest.get(this.#digest);
    if (before >= 0) this.#count(before, -1);
    if (tombstone) {
      if (before !== absent) this.#newest.put(this.#digest, deleted);
    } else {
      const label = this.#labelOf(page, row);
      this.#newest.put(this.#digest, label);
      this.#count(label, 1);
    }
    this.#name(bytes, at, length, tombstone);
  }

  #see(prefix: string, tombstone: boolean): void {
    this.#prefixesSeen.delete(prefix);
    if (!tombstone && this.#prefixesSeen.size < mostPrefixes) this.#prefixesSeen.add(prefix);
  }

  #count(label: number, by: number): void {
    this.#counts[label] = (this.#counts[label] ?? 0) + by;
  }

  #labelOf({ bytes }: Page, row: Row): number {
    const { valueAt, valueBytes, userKeyAt, userKeyBytes } = row;
    if (!startsWith(bytes, valueAt, valueBytes, encryptedMark)) return 0;
    const mark = textAt(bytes, valueAt, Math.min(valueBytes, markBytes));
    const key = /^k8s:enc:([a-z0-9]{1,32}:v\d{1,3}:[^:\s]{1,100}):/.exec(mark)?.[1] ?? "unknown";
    const name = textAt(bytes, userKeyAt, Math.min(userKeyBytes, 300)).slice(this.#prefix.length);
    const label = `${resourceOf(name)} ${key}`;
    const known = this.#labels.get(label);
    if (known !== undefined) return known;
    if (this.#labels.size > mostLabels) return this.#numberOf("others unknown");
    return this.#numberOf(label);
  }

  #numberOf(label: string): number {
    const number = this.#labels.get(label) ?? this.#counts.length;
    this.#labels.set(label, number);
    this.#counts[number] ??= 0;
    return number;
  }

  #name(bytes: Uint8Array, at: number, length: number, tombstone: boolean): void {
    // Both prefixes are told from most others by one byte.
    const first = bytes[at + this.#prefixBytes.length];
    if ((first !== 0x6d && first !== 0x6c) || length > longestName) return;
    const key = textAt(bytes, at, length).slice(this.#prefix.length);
    if (key.startsWith(masterLeases)) keep(this.#masterLeases, key.slice(masterLeases.length), tombstone);
    if (!key.startsWith(leases)) return;
    const name = key.slice(leases.length);
    keep(name.startsWith(nodeNamespace) ? this.#nodeLeases : this.#leases, name, tombstone);
  }

  facts(): KubernetesFacts {
    const encrypted = [...this.#labels]
      .map(([label, number]) => ({ label, objects: this.#counts[number] ?? 0 }))
      .filter(({ label, objects }) => label !== "" && objects > 0)
      .map(({ label, objects }) => {
        const space = label.indexOf(" ");
        return { resource: label.slice(0, space), key: label.slice(space + 1), objects };
      });
    return {
      objects: this.#counts.reduce((sum, count) => sum + count, 0),
      masterLeases: [...this.#masterLeases].toSorted().slice(0, mostNames),
      leases: [...this.#leases].toSorted().slice(0, mostNames),
      nodeLeases: this.#nodeLeases.size,
      encrypted: encrypted.toSorted((a, b) => b.objects - a.objects || (a.resource < b.resource ? -1 : 1)),
    };
  }
}

/** More names than nodes that a cluster has (5000), twice, so that a set stays bounded. */
const mostKept = 20_000;

function keep(names: Set<string>, name: string, tombstone: boolean): void {
  if (tombstone) names.delete(name);
  else if (names.size < mostKept) names.add(name);
}

function startsWith(bytes: Uint8Array, at: number, length: number, prefix: Uint8Array): boolean {
  if (length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (bytes[at + i] !== prefix[i]) return false;
  return true;
}

function endsWith(bytes: Uint8Array, at: number, length: number, end: Uint8Array): boolean {
  return length >= end.length && startsWith(bytes, at + length - end.length, end.length, end);
}

function textAt(bytes: Uint8Array, at: number, length: number): string {
  return Buffer.from(bytes.subarray(at, at + length)).toString();
}

/** Of a key without its prefix: `secrets/…` is secrets; of a custom resource, `GROUP/RESOURCE/…`, it is `RESOURCE.GROUP`. */
function resourceOf(key: string): string {
  const [first = "", second = ""] = key.split("/");
  const word = (text: string): string => text.replaceAll(/[^A-Za-z0-9.-]/g, "?");
  return first.includes(".") ? `${word(second)}.${word(first)}` : word(first);
}
