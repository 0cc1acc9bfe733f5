import type { KubernetesFacts } from "../bolt/kubernetes.ts";
import type { JsonObject, RunbookPlan } from "../runbook/runbook.ts";

/**
 * What a restore cannot put right: what was alive when the backup was taken and may not be now, what only the right keys can read, what was made since and is gone. It is read
 * from the database that is restored, kept in the journal, and told when all else is done.
 */
export interface Hygiene {
  readonly objects: number;
  readonly masterLeases: readonly string[];
  readonly leases: readonly string[];
  readonly nodeLeases: number;
  readonly encrypted: readonly { readonly resource: string; readonly key: string; readonly objects: number }[];
}

/** In a journal, which is mirrored and read again and again, only so many names are kept. */
const mostNames = 50;

/** As the journal keeps it. */
export function hygieneOf({ masterLeases, leases, encrypted, ...counts }: KubernetesFacts): JsonObject {
  return {
    ...counts,
    masterLeases: masterLeases.slice(0, mostNames),
    leases: leases.slice(0, mostNames),
    encrypted: encrypted.slice(0, mostNames).map((one) => ({ ...one })),
  };
}

/** What the result of building said; undefined where an earlier version built. */
export function readHygiene(built: JsonObject | undefined): Hygiene | undefined {
  return built?.["hygiene"] === undefined ? undefined : (built["hygiene"] as unknown as Hygiene);
}

/** All that people should look after when the restore of a plan is done, a paragraph each. `built`: the result of its building. */
export function findingsOf(
  { facts: { login, lost, withoutRepository } }: RunbookPlan,
  built: JsonObject | undefined,
): readonly string[] {
  const hygiene = readHygiene(built);
  const other = login as { readonly username: string; readonly passwordFile: string } | undefined;
  const users =
    other === undefined
      ? []
      : [
          `the restored cluster has the users of the backup's time, and what is configured is refused by it: set cluster.auth to the user ${other.username} with what is in ${other.passwordFile}, ` +
            "here and wherever a daemon runs, or give its users the passwords of today",
        ];
  const repository =
    withoutRepository === true
      ? [
          "the repository knows nothing of this restore, and no backup of what runs now was taken: when the store is back, run etcd-lifeboat adopt, then etcd-lifeboat backup",
        ]
      : [];
  return [
    ...repository,
    ...users,
    ...(hygiene === undefined ? [] : describeHygiene(hygiene, typeof lost === "string" ? lost : "")),
  ];
}

/** For people, a paragraph each; empty for a cluster without Kubernetes. `lost`: what the plan said that the cluster forgets. */
export function describeHygiene(
  { objects, masterLeases, leases, nodeLeases, encrypted }: Hygiene,
  lost: string,
): string[] {
  if (objects === 0) return [];
  const lines = [
    `gone with the backup's time: ${lost}. Clients of the API were told so and read everything anew; what runs outside of it was not: pods on nodes, volumes, ` +
      "load balancers and addresses that were made since then are unknown to the API now, and kubelets that were not restarted may take a while",
  ];
  if (masterLeases.length > 0) {
    lines.push(
      `API servers that were alive in the backup: ${masterLeases.join(", ")}. One that does not run stays an endpoint of the service "kubernetes" until its lease ends, ` +
        "some 15 seconds after etcd's start",
    );
  }
  if (leases.length > 0) {
    lines.push(
      `leases of leaders and API servers are as they were: ${leases.join(", ")}. Their holders of then may be gone: a controller leads only when its lease has ended`,
    );
  }
  if (nodeLeases > 0)
    lines.push(
      `leases of ${nodeLeases} nodes are as old as the backup: a node that does not renew its own is not ready`,
    );
  for (const { resource, key, objects: count } of encrypted) {
    lines.push(
      `${count} ${resource} are encrypted with ${key}: every API server's --encryption-provider-config must have that key. A wrong one is not seen by /livez or by ` +
        "starting; look at /readyz and read one of them",
    );
  }
  if (encrypted.length === 0) {
    lines.push(
      "nothing in it is encrypted by an API server: where encryption at rest is configured now, its providers must include identity to read it",
    );
  }
  return lines;
}
