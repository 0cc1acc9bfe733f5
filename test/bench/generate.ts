import { openKv } from "./kv.ts";

/** Fills an etcd with JSON-like values, the same for the same seed: live keys, a third as many old versions, a few leases. */
export interface Shape {
  readonly keys: number;
  readonly smallestBytes: number;
  readonly largestBytes: number;
  /** Old versions, as a share of the live keys. */
  readonly history: number;
  readonly leases: number;
  readonly seed: number;
}

export async function generate(endpoint: string, shape: Shape): Promise<void> {
  using kv = openKv(endpoint);
  const random = mulberry32(shape.seed);
  const leases = await Promise.all(Array.from({ length: shape.leases }, () => kv.grant(86_400)));
  const put = async (index: number): Promise<void> => {
    const bytes = Math.floor(shape.smallestBytes + random() * (shape.largestBytes - shape.smallestBytes));
    const value = document(index, bytes, random);
    const lease = index % 100 === 0 ? leases[index % leases.length] : undefined;
    await kv.put(`/registry/pods/namespace-${index % 97}/pod-${index}`, value, lease);
  };
  const atOnce = 32;
  const puts = Math.floor(shape.keys * (1 + shape.history));
  for (let from = 0; from < puts; from += atOnce) {
    const batch = Array.from({ length: Math.min(atOnce, puts - from) }, (_, offset) =>
      put((from + offset) % shape.keys),
    );
    await Promise.all(batch);
  }
}

/** About what a Kubernetes object looks like to a compressor: repeated names, random identifiers. */
function document(index: number, bytes: number, random: () => number): Buffer {
  const parts = [`{"kind":"Pod","metadata":{"name":"pod-${index}","uid":"`];
  let length = parts[0]?.length ?? 0;
  while (length < bytes) {
    const part = `${Math.floor(random() * 2 ** 48).toString(16)}","name":"container-${Math.floor(random() * 50)}","image":"registry.example.org/app:${Math.floor(random() * 1000)}","env":"`;
    parts.push(part);
    length += part.length;
  }
  return Buffer.from(parts.join("").slice(0, bytes));
}

export function mulberry32(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
