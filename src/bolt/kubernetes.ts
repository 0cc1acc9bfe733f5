import { openDatabaseFile } from "./file.ts";
import { KeyDigest } from "./key-digest.ts";
import { readMeta } from "./meta.ts";
import { NewestRows, absent, deleted } from "./newest-rows.ts";
import type { Page } from "./page.ts";
import { Pager } from "./pager.ts";
import { Row } from "./row.ts";
import { walkBucket, type Visitor } from "./walk.ts";

/** What a database holds of a Kubernetes cluster that is old as soon as it is restored, or needs something outside of it to be read. */
export interface KubernetesFacts {
  /** Live keys below `/registry/`; 0: no kube-apiserver with the usual prefix wrote here. */
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

/** kube-apiserver's --etcd-prefix, which hardly anybody changes. */
const registry = Buffer.from("/registry/");
const masterLeases = "/registry/masterleases/";
const leases = "/registry/leases/";
const nodeNamespace = "kube-node-lease/";
/** k8s.io/apiserver storage/value/encrypt: `k8s:enc:PROVIDER:VERSION:KEY:`. */
const encryptedMark = Buffer.from("k8s:enc:");
const markBytes = 160;
const mostNames = 1000;
const mostLabels = 256;

/** Reads the rows of bucket `key` once. Synchronous, for a worker thread; some 30 bytes per key below `/registry/`. Faults are those of a scan. */
export function surveyKubernetes(path: string): KubernetesFacts {
  using file = openDatabaseFile(path, undefined);
  const meta = readMeta(file);
  const survey = new Survey();
  walkBucket(new Pager(file, meta), { kind: "tree", root: meta.rootPage }, 0, {
    plain: false,
    row: () => undefined,
    bucket(page, keyAt, keyBytes, bucket, level) {
      if (Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)).toString() !== "key") return;
      // A pager of its own: the outer one holds the page that is being walked.
      walkBucket(new Pager(file, meta), bucket, level, survey);
    },
  });
  return survey.facts();
}

class Survey implements Visitor {
  readonly plain = true;
  readonly #row = new Row();
  readonly #digest = new KeyDigest();
  /** By key, the number of what its newest value is encrypted with; 0: with nothing. */
  readonly #newest = new NewestRows();
  readonly #labels = new Map<string, number>([["", 0]]);
  readonly #counts: number[] = [0];
  readonly #masterLeases = new Set<string>();
  readonly #leases = new Set<string>();
  readonly #nodeLeases = new Set<string>();

  row(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    const row = this.#row;
    row.decode(page, keyAt, keyBytes, valueAt, valueBytes);
    const { bytes, view } = page;
    const { userKeyAt: at, userKeyBytes: length, tombstone } = row;
    if (!startsWith(bytes, at, length, registry)) return;
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

  #count(label: number, by: number): void {
    this.#counts[label] = (this.#counts[label] ?? 0) + by;
  }

  #labelOf({ bytes }: Page, row: Row): number {
    const { valueAt, valueBytes, userKeyAt, userKeyBytes } = row;
    if (!startsWith(bytes, valueAt, valueBytes, encryptedMark)) return 0;
    const text = (from: number, length: number): string => Buffer.from(bytes.subarray(from, from + length)).toString();
    const mark = text(valueAt, Math.min(valueBytes, markBytes));
    const key = /^k8s:enc:([a-z0-9]{1,32}:v\d{1,3}:[^:\s]{1,100}):/.exec(mark)?.[1] ?? "unknown";
    const label = `${resourceOf(text(userKeyAt, Math.min(userKeyBytes, 300)))} ${key}`;
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
    const first = bytes[at + registry.length];
    if ((first !== 0x6d && first !== 0x6c) || length > 1000) return;
    const key = Buffer.from(bytes.subarray(at, at + length)).toString();
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

/** `/registry/secrets/…` is secrets; of a custom resource, `/registry/GROUP/RESOURCE/…`, it is `RESOURCE.GROUP`. */
function resourceOf(key: string): string {
  const [first = "", second = ""] = key.slice(registry.length).split("/");
  const word = (text: string): string => text.replaceAll(/[^A-Za-z0-9.-]/g, "?");
  return first.includes(".") ? `${word(second)}.${word(first)}` : word(first);
}
