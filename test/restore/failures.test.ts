import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

/**
 * What can go wrong with a restore, and which tests show what it does then: first on real etcd, as far as one machine can show it, then where every instant or a whole
 * week can be steered. A test that is renamed or removed is missed here.
 */
const failures: Readonly<Record<string, readonly (readonly [file: string, ...names: readonly string[]])[]>> = {
  "the process is killed at any step": [
    ["crash/restore.test.ts", "at every step end as those that are not"],
    ["cluster/restore-faults.test.ts", "a restore that was killed with the old data aside is resumed"],
    ["restore/crash.test.ts", "of three members is resumed, and is rolled back"],
    ["restore/crash.long.test.ts", "and once more at an instant of what was to bring it to its end"],
  ],
  "it is run again after it failed, over the only old data": [
    ["cluster/restore-faults.test.ts", "a restore that was killed with the old data aside is resumed"],
    ["cluster/cleanup.test.ts", "old data goes only by its own command"],
    ["contracts/host.ts", "never takes the place of what is there, not even of an empty directory"],
  ],
  "a disk has no room for old and new, or becomes full amid it": [
    ["cluster/restore-disks.test.ts", "a disk without room refuses the plan"],
    ["restore/gates.test.ts", "room for the new beside the old is asked for, on each disk", "room is asked for twice"],
    ["restore/refused.test.ts", "a disk that is full when the new data comes has nothing moved"],
  ],
  "mounts, links, owners and modes are not what a rename expects": [
    ["cluster/restore-kinds.test.ts", "a data directory that is a mount point stays mounted"],
    ["cluster/restore-disks.test.ts", "a disk without room refuses the plan"],
    ["restore/gates.test.ts", "what is mounted inside of member, or linked to, is refused with its path"],
    ["contracts/host.ts", "brings a tree with its modes, and nothing is left beside it"],
  ],
  "an API server is not really stopped, or comes back": [
    ["cluster/restore-faults.test.ts", "an API server that its stop command only kills, and whose probe lies"],
    ["cluster/restore-faults.test.ts", "an etcd that runs and does not answer is not taken to be silent"],
    ["cluster/restore-refused.test.ts", "an API server that comes back while the data is exchanged keeps the restored"],
    ["restore/refused.test.ts", "an API server that comes back while the data is exchanged meets no restored member"],
  ],
  "a hook lies, hangs, leaves children, prints secrets or says no": [
    ["cluster/restore-refused.test.ts", "a hook stops it and says why without its secrets, one that hangs is killed"],
    ["runbook/hooks.test.ts", "and hangs is killed with all that it started", "and prints secrets has them blanked"],
    ["restore/hooks.test.ts", "one at %s that stops it leaves it to be resumed, or to be rolled back"],
  ],
  "a host is lost, before the new data serves or after it": [
    ["cluster/restore-lost.test.ts", "before the new data serves it stops the restore, and the others go back"],
    ["restore/lost.test.ts", "at whatever instant leads somewhere whole, without it and with it"],
  ],
  "an etcd of the old cluster still runs, or comes back": [
    ["cluster/restore-silent.test.ts", "a member that answers from its old data is known by its cluster ID"],
    ["cluster/restore-silent.test.ts", "a member that comes back with its old data later stays outside"],
    ["restore/gates.test.ts", "a member that no host carries is refused by name"],
  ],
  "revisions go back under a client's feet": [
    ["cluster/restore-silent.test.ts", "a client that only goes on from the last revision it saw ends with what was"],
    ["cluster/restore-silent.test.ts", "the same client believes what is gone where revisions go back"],
    ["cluster/restore-survivor.test.ts", "when all members died, the first revision is above what their own files say"],
    ["restore/gates.test.ts", "is above everything that was ever seen, whoever saw it"],
  ],
  "the data is damaged in the store, on its way or on the host's disk": [
    ["cluster/restore-refused.test.ts", "without the key, with another one, of a damaged backup"],
    ["cluster/restore-disks.test.ts", "data that its disk changes after it was read back there is found by its hash"],
    ["contracts/host.ts", "a file with %s leaves no directory under the name"],
  ],
  "the backup is of another cluster, or of an etcd that cannot be started on it": [
    ["cluster/restore-as-new.test.ts", "a backup becomes another cluster on an empty machine"],
    ["cluster/restore-kinds.test.ts", "a backup of the previous minor is restored on the one that runs now"],
    [
      "restore/gates.test.ts",
      "a backup of another cluster is refused",
      "a snapshot that the installed minor cannot start",
    ],
  ],
  "every machine is lost, and the new ones have other addresses": [
    ["cluster/restore-kinds.test.ts", "a machine that took the place of a lost one gets its member at its own address"],
    ["restore/gates.test.ts", "machines with other addresses are told by the configuration, as long as nobody"],
  ],
  "the key is missing, or is another one": [
    ["cluster/restore-refused.test.ts", "without the key, with another one, of a damaged backup"],
    ["restore/rollback.test.ts", "the way back needs neither the backup nor its key, nor a store that answers"],
  ],
  "the API servers' own encryption is not what it was": [
    ["bolt/kubernetes.test.ts", "what is encrypted is counted by resource and key, as its newest value says"],
    ["restore/hygiene.test.ts", "each thing that a restore cannot put right is told, with what it means"],
  ],
  "two operators restore at once": [
    ["cluster/restore-operators.test.ts", "of two who restore at once one does and the other is told"],
    ["restore/refused.test.ts", "the second of two operators is refused with the name of the first"],
  ],
  "the operator's terminal goes away": [
    ["cluster/restore-operators.test.ts", "what the first leaves as his terminal goes is finished at another one"],
    ["entry.test.ts", "to standard error does not change how it ends where that cannot be written"],
  ],
  "the plan is not true any more": [
    ["cluster/restore-operators.test.ts", "a plan that has become untrue is refused when the name is typed"],
    ["restore/refused.test.ts", "a plan is stale when anything that it was made of is otherwise"],
  ],
  "every member is healthy, and what they hold is wrong": [
    [
      "cluster/restore-silent.test.ts",
      "a log that the configuration says nothing of is seen before anything is touched",
    ],
    ["cluster/restore-disks.test.ts", "data that its disk changes after it was read back there is found by its hash"],
    ["restore/same-data.test.ts", "a later patch compares with the file also after leases have expired"],
  ],
  "etcd is started elsewhere, or otherwise, than the configuration says": [
    ["cluster/restore-pods.test.ts", "static pods go back"],
    [
      "restore/gates.test.ts",
      "a manifest that starts etcd on another directory, or on none that stays, is refused though nothing runs",
      "a log that only the manifest, or only the configuration, knows of",
      "with --force-new-cluster left in it, is refused",
    ],
    ["service/static-pod.test.ts", "of which there is a copy is refused: the kubelet runs both"],
  ],
  "units, manifests or commands are described anew while an operation is unfinished": [
    ["hosts/restore-member.test.ts", "with its settings in a file: taken back it is as it was found"],
    ["restore/bound.test.ts", "etcd that is run in another way than it was planned is refused"],
  ],
  "a host reboots while everything is stopped": [
    ["cluster/restore-pods.test.ts", "every host reboots before it is resumed"],
    ["contracts/service.ts", "held and stopped it stays down: over a reboot, and whoever tries"],
  ],
  "backups go on in the old history": [
    ["cluster/restore-faults.test.ts", "a restore that was killed with the old data aside is resumed"],
    ["cluster/lineages.test.ts", "a restore behind the backs of two daemons"],
  ],
};

/** What no test here shows: SELinux contexts, which need a kernel that enforces them, and a KMS that does not answer, which only an API server would ask. */
test.each(Object.entries(failures))("that %s is shown where this says", (_failure, shown) => {
  for (const [file, ...names] of shown) {
    const text = readFileSync(join(import.meta.dirname, "..", file), "utf8");
    for (const name of names) expect(text, `${file} has no test "${name}"`).toContain(name);
  }
});
