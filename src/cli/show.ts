import { escapeControls, formatBytes } from "../format.ts";
import { findEntry } from "../repository/catalog.ts";
import type { Manifest } from "../repository/manifest.ts";
import { pinsOf, readPin } from "../repository/pin.ts";
import type { Proof } from "../repository/proof.ts";
import { readProofs } from "../repository/proofs.ts";
import { restoreBump } from "../snapshot/note.ts";
import { openAt, type StoreOptions } from "./copy.ts";
import { openCatalog, tellRefused, tellRefusedProofs } from "./list.ts";
import { proofRows } from "./show-proof.ts";
import { printJson, type Environment } from "./tools.ts";

/** Shows one backup: what it holds, whose it is, how it was proven, how it is stored. */
export async function showCommand(environment: Environment, wanted: string, options: StoreOptions): Promise<number> {
  await using tools = openAt(environment, options);
  const { console, signal } = environment;
  const { catalog, store } = await openCatalog(tools, [wanted], signal);
  tellRefused(console, catalog);
  const entry = findEntry(catalog, wanted);
  const belief = { repository: entry.manifest.repository, trusted: await tools.trusted() };
  const { proofs, refused } = await readProofs(store, catalog, entry, belief, signal);
  tellRefusedProofs(console, refused);
  const pin = await readPin(store, pinsOf(catalog, entry.listed), belief, signal);
  const pinned = pin?.pinned === true ? pin.reason : null;
  if (options.json === true) printJson(console, { ...entry.manifest, proofs, pinned });
  else console.out(showText(entry.manifest, proofs, pinned, store.description));
  return refused.length > 0 ? 12 : 0;
}

function showText(manifest: Manifest, proofs: readonly Proof[], pinned: string | null, store: string): string {
  const { content, data, source, live } = manifest;
  const rows: readonly (readonly [string, string] | undefined)[] = [
    ["backup", manifest.backup],
    ["lineage", manifest.lineage],
    manifest.label === null ? undefined : ["label", manifest.label],
    [
      "state",
      manifest.trigger === "import"
        ? "foreign: an imported file, nothing says whose"
        : "sealed: its bytes are what etcd sent",
    ],
    ...proofRows(proofs, manifest.trigger === "import"),
    pinned === null ? undefined : ["pinned", pinned],
    ["committed", manifest.committedAt],
    ["cluster", `${manifest.cluster.name}${manifest.cluster.id === null ? "" : ` (${manifest.cluster.id})`}`],
    source === null
      ? undefined
      : ["source", `${source.name} at ${source.url}, etcd ${source.version}: ${source.reason}`],
    live?.quorum === false ? ["quorum", "no: this was the highest member that answered"] : undefined,
    [
      "revision",
      `${content.revision}${content.compactRevision < 0n ? "" : `, compacted to ${content.compactRevision}`}`,
    ],
    ["keys", `${content.keys} in ${content.rows} rows, ${content.leases} leases`],
    ["database", `${formatBytes(content.dbBytes)}, ${formatBytes(content.logicalBytes)} in use`],
    ["storage version", content.storageVersion ?? "not recorded (before etcd 3.6)"],
    ["authentication", content.authEnabled ? "on: a restore needs the passwords of this time" : "off"],
    content.alarms.length === 0
      ? undefined
      : ["alarms", content.alarms.map(({ kind, memberId }) => `${kind} of ${memberId}`).join(", ")],
    live === null ? undefined : ["v2 content", `${live.v2.state}: ${live.v2.why}`],
    [
      "members",
      content.members
        .map(({ name, peerUrls, learner }) => `${name} ${peerUrls.join(",")}${learner ? " (learner)" : ""}`)
        .join("; "),
    ],
    ["object", `${store}/${data.object}`],
    ["stored", `${formatBytes(data.storedBytes)}, verified by ${data.verified}, SHA-256 ${data.sha256}`],
    ["encrypted", data.encryption === null ? "no" : `to ${data.encryption.recipients.join(", ")}`],
    manifest.extras === null
      ? undefined
      : ["extras", `${manifest.extras.files.length} files in ${manifest.extras.object}`],
    ...manifest.extrasMissing.map(({ path, why }): [string, string] => ["extra missing", `${path}: ${why}`]),
    ["restore by hand", `${store}/${manifest.note.object} (revision lifted by ${restoreBump(manifest)})`],
  ];
  return rows
    .flatMap((row) => (row === undefined ? [] : [`${row[0].padEnd(16)} ${escapeControls(row[1])}\n`]))
    .join("");
}
