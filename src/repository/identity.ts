import { z } from "zod";
import { Fault, isFault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { formatInstant, readDocument, timeField, ulidField, writeDocument } from "./documents.ts";
import { lineagesPrefix, parseObjectName, repositoryDocumentName } from "./names.ts";

/** `repository.json`: created once, never changed. It binds a place in a store to one cluster's name. */
const repositoryDocument = z.strictObject({
  schema: z.literal("etcd-lifeboat/repository/v1"),
  repository: ulidField,
  cluster: z.string(),
  createdAt: timeField,
  /** The id of the first lineage, chosen here so that daemons that start together agree on it. */
  firstLineage: ulidField,
});

export interface RepositoryIdentity {
  readonly id: string;
  readonly cluster: string;
  readonly firstLineage: string;
}

/**
 * Reads the identity; undefined when there is no repository yet. Rejects with `repository-foreign` when it is another cluster's, and with
 * `store-damaged` when only the document is missing: a new identity would give up every backup that is there.
 */
export async function readIdentity(
  store: Store,
  cluster: string,
  signal: AbortSignal,
): Promise<RepositoryIdentity | undefined> {
  let bytes = await readIfThere(store, signal);
  if (bytes === undefined) {
    const remains = await findRemains(store, signal);
    if (remains === undefined) return undefined;
    // Another daemon may have created the repository between the two looks.
    bytes = await readIfThere(store, signal);
    if (bytes === undefined) throw lost(store, remains);
  }
  const document = readDocument(repositoryDocumentName, bytes, repositoryDocument);
  if (document.cluster !== cluster) {
    throw new Fault(
      "repository-foreign",
      `${store.description} holds the backups of cluster "${document.cluster}", not of "${cluster}"`,
      {
        hint: "give each cluster a prefix or directory of its own, or correct cluster.name",
      },
    );
  }
  return { id: document.repository, cluster, firstLineage: document.firstLineage };
}

async function readIfThere(store: Store, signal: AbortSignal): Promise<Uint8Array | undefined> {
  try {
    return await store.read(repositoryDocumentName, signal);
  } catch (error) {
    if (isFault(error, "store-object-missing")) return undefined;
    throw error;
  }
}

/** The first name under `lineages/` that only a repository can have. */
async function findRemains(store: Store, signal: AbortSignal): Promise<string | undefined> {
  for await (const { name } of store.list(lineagesPrefix, signal)) {
    if (parseObjectName(name) !== undefined) return name;
  }
  return undefined;
}

function lost(store: Store, remains: string): Fault {
  return new Fault(
    "store-damaged",
    `${repositoryDocumentName} is missing from ${store.description}, but ${remains} is there: somebody or a lifecycle rule removed it`,
    {
      hint: "put it back as docs/formats/repository-v1.md describes it, with the repository id that every manifest carries; let no lifecycle rule expire it",
    },
  );
}

/** Of which cluster the backups in a store are; undefined when there is no repository. For who means another cluster than his own. */
export async function readClusterName(store: Store, signal: AbortSignal): Promise<string | undefined> {
  const bytes = await readIfThere(store, signal);
  return bytes && readDocument(repositoryDocumentName, bytes, repositoryDocument).cluster;
}

/** Creates the repository; when another daemon was faster, its identity is the answer. */
export async function createRepository(
  store: Store,
  cluster: string,
  ids: { readonly repository: string; readonly firstLineage: string },
  nowMs: number,
  signal: AbortSignal,
): Promise<{ readonly identity: RepositoryIdentity; readonly created: boolean }> {
  const document: z.input<typeof repositoryDocument> = {
    schema: "etcd-lifeboat/repository/v1",
    repository: ids.repository,
    cluster,
    createdAt: formatInstant(nowMs),
    firstLineage: ids.firstLineage,
  };
  let created = true;
  try {
    await store.create(repositoryDocumentName, writeDocument(document), signal);
  } catch (error) {
    if (!isFault(error, "store-exists")) throw error;
    created = false;
  }
  const identity = await readIdentity(store, cluster, signal);
  if (identity === undefined) {
    throw new Fault("store-damaged", `${repositoryDocumentName} cannot be read back from ${store.description}`);
  }
  return { identity, created };
}
