import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { Site } from "../cluster/site.ts";

/** The proof of a backup as it stands in the site's directory store. */
export interface StoredProof {
  readonly verdict: string;
  readonly reason: string;
  readonly voters: number;
  readonly needed: number;
  readonly agreeing: readonly string[];
  readonly diverged: readonly string[];
  readonly alone: boolean;
  readonly source: { readonly name: string } | null;
  readonly revision: string;
  readonly compactRevision: string | null;
  readonly answers: readonly {
    readonly member: string;
    readonly role: string;
    readonly outcome: {
      readonly kind: string;
      readonly hash?: number;
      readonly compactRevision?: string;
      readonly message?: string;
    };
  }[];
}

/** Takes a backup by the command and reads the proof that it wrote. */
export async function backUp(site: Site): Promise<StoredProof> {
  const { backup } = await site.json<{ backup: string }>(["backup"]);
  const names = (await site.objects()).filter((name) => name.includes(`/proofs/${backup}.hashkv.`));
  expect(names, `the proofs of ${backup}`).toHaveLength(1);
  return JSON.parse(await readFile(join(site.store, names[0] ?? ""), "utf8")) as StoredProof;
}
