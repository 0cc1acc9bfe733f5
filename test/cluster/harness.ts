import { prepareCluster } from "./cluster.ts";
import type { ClusterOptions, PreparedCluster, RestoreOptions, TestCluster } from "./cluster.ts";

export type { ClusterOptions, RestoreOptions, TestCluster } from "./cluster.ts";
export type { TestMember } from "./member.ts";
export type { Minor } from "./servers.ts";

/** Starts a new cluster and returns when every member serves linearizable reads. */
export async function startCluster(options: ClusterOptions = {}): Promise<TestCluster> {
  return await withFreshPorts(async () => {
    const cluster = await prepareCluster(options);
    return await startPrepared(cluster, async () => {
      if (options.auth) await cluster.enableAuth(options.auth.rootPassword);
    });
  });
}

/**
 * Starts a cluster from a snapshot with the stock tool, under a new token. Of `auth` only the password is used: users
 * and whether authentication is on come out of the snapshot.
 */
export async function restoreCluster(options: RestoreOptions): Promise<TestCluster> {
  return await withFreshPorts(async () => {
    const cluster = await prepareCluster(options);
    if (options.auth) cluster.useAuth(options.auth.rootPassword);
    return await startPrepared(
      cluster,
      async () => undefined,
      () => cluster.restore(options),
    );
  });
}

/**
 * Starts a cluster on data directories that `lay` puts where its members expect them. Of `auth` only the password is used, as with `restoreCluster`.
 */
export async function startLaidCluster(
  options: ClusterOptions,
  lay: (cluster: TestCluster) => Promise<void>,
): Promise<TestCluster> {
  return await withFreshPorts(async () => {
    const cluster = await prepareCluster(options);
    if (options.auth) cluster.useAuth(options.auth.rootPassword);
    return await startPrepared(
      cluster,
      async () => undefined,
      () => lay(cluster),
    );
  });
}

async function startPrepared(
  cluster: PreparedCluster,
  after: () => Promise<void>,
  before: () => Promise<void> = async () => undefined,
): Promise<TestCluster> {
  try {
    await before();
    await Promise.all(cluster.members.map((member) => member.start()));
    await after();
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

// Only a foreign program can take a reserved port, so a second and third try are plenty.
async function withFreshPorts(start: () => Promise<TestCluster>): Promise<TestCluster> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await start();
    } catch (error) {
      if (tries === 3 || !(error instanceof Error) || !error.message.includes("address already in use")) throw error;
    }
  }
}
