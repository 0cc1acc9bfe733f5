import type { Manifest } from "../repository/manifest.ts";

/** A restore must end above every revision that a client may have seen; this is the least that is ever added. */
const leastBump = 1_000_000_000n;

/** How far a restore of this backup must lift the revision: twice of what was seen since, and never less than a thousand million. */
export function restoreBump(manifest: Pick<Manifest, "content" | "live">): bigint {
  const seen = (manifest.live?.highestRevision ?? 0n) - manifest.content.revision;
  return 2n * seen > leastBump ? 2n * seen : leastBump;
}

/**
 * RESTORE.md, stored beside each backup: the manual commands with this cluster's names, URLs and object names, for the day this program is gone.
 * It holds no secret and is stored as it is.
 */
export function writeRestoreNote(manifest: Omit<Manifest, "note">, storeDescription: string): string {
  const { content, data, live } = manifest;
  // Learners and members that have never started hold nothing that must come back: they are added again afterwards.
  const members = (live?.members ?? content.members).filter(({ learner, name }) => !learner && name !== "");
  const encrypted = data.encryption !== null;
  const minor = /^\d+\.\d+/.exec(manifest.source?.version ?? content.clusterVersion ?? "")?.[0];
  const cluster = members.map(({ name, peerUrls }) => peerUrls.map((url) => `${name}=${url}`).join(",")).join(",");
  const file = data.object.slice(data.object.lastIndexOf("/") + 1);
  const decode = encrypted ? `age -d -i KEY ${file} | zstd -d > snapshot.db` : `zstd -d < ${file} > snapshot.db`;
  // Longer than any run of backticks in what the cluster says of itself, so that nothing ends the block early.
  const fence = "`".repeat(Math.max(3, ...[...cluster.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  const lines = [
    `# Restore cluster ${plain(manifest.cluster.name)} from backup ${manifest.backup}, by hand`,
    "",
    `Revision ${content.revision}, taken ${manifest.startedAt}${manifest.source === null ? "" : ` from member ${plain(manifest.source.name)} (etcd ${plain(manifest.source.version)})`}, ${content.keys} keys.`,
    `Lineage ${manifest.lineage}, repository ${manifest.repository}.`,
    "",
    "Restoring replaces the data of **every** member. Stop all API servers and other clients first, and start them last.",
    "",
    "## 1. Fetch and decode",
    "",
    `Fetch the object \`${data.object}\` from ${storeDescription} (${data.storedBytes} bytes), then:`,
    "",
    "```sh",
    `echo "${data.sha256}  ${file}" | sha256sum -c -`,
    decode,
    "```",
    "",
    ...(encrypted
      ? [`\`KEY\` is the age identity of one of: ${(data.encryption?.recipients ?? []).join(", ")}.`, ""]
      : []),
    "## 2. Stop",
    "",
    "On every control-plane node: stop the API servers (static pods: move the manifests out of /etc/kubernetes/manifests), then etcd.",
    "Move each member's old data directory aside; do not delete it.",
    "",
    "## 3. Restore every member from the same file",
    "",
    minor === undefined ? "Use the etcdutl of the minor that you will start." : toolAdvice(minor),
    "The revision is lifted so that no client ever sees it go back. If clients wrote much since the backup, lift it further.",
    "",
    ...members.flatMap((member) => [
      `On ${plain(member.name)}:`,
      "",
      `${fence}sh`,
      "etcdutl snapshot restore snapshot.db \\",
      `  --name ${quote(member.name)} \\`,
      `  --initial-cluster ${quote(cluster)} \\`,
      `  --initial-cluster-token ${quote(`restore-${manifest.backup}`)} \\`,
      `  --initial-advertise-peer-urls ${quote(member.peerUrls.join(","))} \\`,
      `  --bump-revision ${restoreBump(manifest)} --mark-compacted \\`,
      "  --data-dir DATA_DIRECTORY",
      fence,
      "",
    ]),
    "The data directory must belong to etcd's user. Start etcd with the same name, URLs and `--initial-cluster`.",
    "",
    "## 4. Look before the API servers start",
    "",
    `- \`etcdctl endpoint status --cluster -w table\`: ${members.length} members, one leader, no learner.`,
    `- \`etcdctl get "" --prefix --count-only --write-out fields\`: ${content.keys} keys.`,
    ...(content.alarms.length > 0
      ? ["- Alarms come back with the data: `etcdctl alarm list`, then `etcdctl alarm disarm`."]
      : ["- `etcdctl alarm list`: empty."]),
    ...(content.authEnabled ? ["- Authentication is on in this backup: the passwords are those of its time."] : []),
    ...(live?.v2.state === "yes"
      ? ["- This cluster had v2 content, which no v3 snapshot holds: it is not in this backup."]
      : []),
    ...(manifest.extras === null
      ? []
      : [
          "",
          "## Extras",
          "",
          `\`${manifest.extras.object}\` holds ${manifest.extras.files.length} files: \`age -d -i KEY ${manifest.extras.object.slice(manifest.extras.object.lastIndexOf("/") + 1)} | zstd -d | tar -tf -\`.`,
        ]),
    "",
    `Cluster ID when it was taken: ${manifest.cluster.id ?? "unknown"}; members: ${content.members.map(({ id, name }) => `${plain(name)} ${id}`).join(", ")}.`,
    "",
  ];
  return lines.join("\n");
}

function toolAdvice(minor: string): string {
  const [, small = 0] = minor.split(".").map(Number);
  return small <= 4
    ? `This is a snapshot of etcd ${minor}: use etcdutl 3.5.10 or newer 3.5, and start etcd ${minor} on the result.`
    : `This is a snapshot of etcd ${minor}: use the etcdutl of that minor${small === 5 ? " (3.5.10 or newer, for --bump-revision)" : ""}, and start etcd ${minor}.`;
}

/** For Markdown text; a name that could be more than a word there is shown as a JSON string in a code span. */
function plain(text: string): string {
  if (/^[\p{L}\p{N} ._:/+-]*$/u.test(text)) return text;
  return `\`${JSON.stringify(text).replaceAll("`", "\\u0060")}\``;
}

/** For a POSIX shell; member names and URLs come from the cluster. */
function quote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
