import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { runEtcdctl } from "./etcdctl.ts";
import { fill } from "./fill.ts";
import type { Filling } from "./fill.ts";
import { createMember, dataDirectory, peerUrl } from "./member.ts";
import type { MemberPlan, TestMember } from "./member.ts";
import { accepts, releasePorts, reservePorts } from "./ports.ts";
import { runProgram } from "./processes.ts";
import { etcdProgram } from "./servers.ts";
import type { Minor } from "./servers.ts";
import { createAuthority } from "./tls.ts";
import type { Authority, Issued } from "./tls.ts";

export interface ClusterOptions {
  /** 3.6 by default. */
  readonly minor?: Minor;
  /** 1 by default. */
  readonly members?: 1 | 3 | 5;
  /** Clients and peers must have certificates of the cluster's own authority. */
  readonly tls?: boolean;
  /** A user root with this password and the role root; authentication is on. */
  readonly auth?: { readonly rootPassword: string };
  /** Further flags of every member, such as --quota-backend-bytes=… */
  readonly flags?: readonly string[];
  /** Members are called by it and a number; etcd1, etcd2, … by default. */
  readonly name?: string;
  /** The cluster's token, of which its ID is made together with the peer URLs; random by default. */
  readonly token?: string;
}

export interface RestoreOptions extends ClusterOptions {
  /** A database with its seal, as `etcdctl snapshot save` and `etcd-lifeboat fetch` write it. */
  readonly snapshotFile: string;
  /** Added to the revision; it marks everything before as compacted. */
  readonly bump?: bigint;
  /** For a database that has no seal. */
  readonly skipHashCheck?: boolean;
}

export interface ClusterTls extends Issued {
  readonly ca: string;
  /** A client certificate with the common name root. */
  readonly root: Issued;
  /** Issues more. */
  readonly authority: Authority;
  readonly directory: string;
}

export interface ToolOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Record<string, string>;
  /** These members only; the endpoints of all by default. */
  readonly endpoints?: readonly string[];
}

/** A running cluster; disposing it kills every process and removes its directory. */
export interface TestCluster extends AsyncDisposable {
  readonly minor: Minor;
  readonly members: readonly TestMember[];
  /** Of the members that were not added as learners, since those serve hardly anything. */
  readonly endpoints: readonly string[];
  readonly tls: ClusterTls | undefined;
  readonly directory: string;
  readonly token: string;
  /** The minor's etcdctl with endpoints, certificates and user set by the environment; gives its standard output. */
  etcdctl(args: readonly string[], options?: ToolOptions): Promise<string>;
  /** The minor's etcdutl; 3.5's for 3.3 and 3.4. */
  etcdutl(args: readonly string[]): Promise<string>;
  /** Waits out an election, like get and revision. */
  put(key: string, value: string | Uint8Array): Promise<void>;
  /** The value as text, or undefined when there is no such key. */
  get(key: string): Promise<string | undefined>;
  /** The current revision, by a linearizable read. */
  revision(): Promise<bigint>;
  /** Thousands of keys a second. */
  fill(filling: Filling): Promise<void>;
  /** Learners need 3.4 or later. */
  addMember(options?: { readonly learner?: boolean }): Promise<TestMember>;
  /** Kills every member and deletes all data: the cluster is lost. Logs stay. */
  destroy(): Promise<void>;
}

/** A cluster whose members are planned and not started. */
export interface PreparedCluster extends TestCluster {
  useAuth(rootPassword: string): void;
  enableAuth(rootPassword: string): Promise<void>;
  restore(options: RestoreOptions): Promise<void>;
}

/** Plans a cluster: its directory, ports and certificates exist, no process does. */
export async function prepareCluster(options: ClusterOptions): Promise<PreparedCluster> {
  const { minor = "3.6", members: count = 1, name = "etcd", flags = [], token = `lifeboat-${randomUUID()}` } = options;
  etcdProgram(minor, "etcd");
  const directory = await makeDirectory("etcd");
  const ports = [...(await reservePorts(count * 3))];
  const tls = options.tls === true ? await makeTls(join(directory, "tls")) : undefined;
  let rootPassword: string | undefined;

  const planMember = (number: number, at: MemberPlan["ports"]) => ({
    minor,
    directory,
    token,
    flags,
    learner: false,
    name: `${name}${number}`,
    ports: at,
    tls: tls && { ca: tls.ca, server: tls.server },
  });
  const first = Array.from({ length: count }, (_, index) =>
    planMember(index + 1, [portAt(ports, index * 3), portAt(ports, index * 3 + 1), portAt(ports, index * 3 + 2)]),
  );
  const initialCluster = first.map((plan) => `${plan.name}=${peerUrl(plan)}`).join(",");

  const etcdctl = async (args: readonly string[], { endpoints, ...tool }: ToolOptions = {}): Promise<string> => {
    const auth = rootPassword === undefined ? undefined : { username: "root", password: rootPassword };
    return await runEtcdctl(minor, { endpoints: endpoints ?? cluster.endpoints, tls, auth }, args, tool);
  };

  // A linearizable read through this very member. A learner serves none, nor a login: it is ready when it takes
  // connections and the voters know its URL, which it tells them itself.
  const ready = async (member: TestMember): Promise<boolean> => {
    if (!(await answers(member.metricsUrl)) || !(await accepts(Number(new URL(member.clientUrl).port)))) return false;
    const read = ["get", "health", "--command-timeout=3s", "--dial-timeout=3s"];
    const check = member.learner ? etcdctl(["member", "list"]) : etcdctl(read, { endpoints: [member.clientUrl] });
    return await check.then(
      (told) => !member.learner || told.includes(member.clientUrl),
      () => false,
    );
  };
  const members = first.map((plan) => createMember({ ...plan, initialCluster, state: "new" }, ready));

  const cluster: PreparedCluster = {
    minor,
    members,
    get endpoints() {
      return members.filter((member) => !member.learner).map((member) => member.clientUrl);
    },
    tls,
    directory,
    token,
    etcdctl,
    etcdutl: async (args) => await runProgram(etcdProgram(minor, "etcdutl"), args),
    put: async (key, value) => void (await patiently(() => etcdctl(["put", key], { input: value }))),
    async get(key) {
      const found = parseRange(await patiently(() => etcdctl(["get", key, "--write-out=json"]))).kvs?.[0];
      return found && Buffer.from(found.value ?? "", "base64").toString();
    },
    async revision() {
      // As text: a revision may be too large for a JavaScript number.
      const answer = await patiently(() => etcdctl(["get", "revision-of-nothing", "--write-out=json"]));
      return BigInt(/"revision":(\d+)/.exec(answer)?.[1] ?? 0);
    },
    async fill(filling) {
      const endpoints = members.filter((member) => member.running && !member.learner).map((member) => member.clientUrl);
      const auth = rootPassword === undefined ? undefined : { username: "root", password: rootPassword };
      await fill({ endpoints, tls, auth }, filling);
    },
    async addMember({ learner = false } = {}) {
      const added = await reservePorts(3);
      ports.push(...added);
      const plan = planMember(members.length + 1, [portAt(added, 0), portAt(added, 1), portAt(added, 2)]);
      const flagsOfAdd = [`--peer-urls=${peerUrl(plan)}`, ...(learner ? ["--learner"] : [])];
      const told = await patiently(() => etcdctl(["member", "add", plan.name, ...flagsOfAdd]));
      const initialClusterNow = /ETCD_INITIAL_CLUSTER="(.*)"/.exec(told)?.[1];
      if (initialClusterNow === undefined) throw new Error(`etcdctl member add says something new: ${told}`);
      const member = createMember({ ...plan, initialCluster: initialClusterNow, state: "existing", learner }, ready);
      members.push(member);
      await member.start();
      return member;
    },
    async destroy() {
      await Promise.all(members.map((member) => member.stop("SIGKILL")));
      for (const { dataDirectory: data } of members) await rm(data, { recursive: true, force: true });
    },
    useAuth(password) {
      rootPassword = password;
    },
    async enableAuth(password) {
      await etcdctl(["user", "add", `root:${password}`]);
      await etcdctl(["role", "add", "root"]);
      await etcdctl(["user", "grant-role", "root", "root"]);
      await etcdctl(["auth", "enable"]);
      rootPassword = password;
      await Promise.all(members.map((member) => member.awaitReady()));
    },
    async restore({ snapshotFile, bump, skipHashCheck }) {
      await Promise.all(
        first.map((plan) =>
          cluster.etcdutl([
            "snapshot",
            "restore",
            snapshotFile,
            `--name=${plan.name}`,
            `--data-dir=${dataDirectory(plan)}`,
            `--initial-cluster=${initialCluster}`,
            `--initial-cluster-token=${token}`,
            `--initial-advertise-peer-urls=${peerUrl(plan)}`,
            ...(bump === undefined ? [] : [`--bump-revision=${bump}`, "--mark-compacted"]),
            ...(skipHashCheck === true ? ["--skip-hash-check"] : []),
          ]),
        ),
      );
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => member.stop("SIGKILL")));
      releasePorts(ports);
      await discardDirectory(directory);
    },
  };
  return cluster;
}

async function makeTls(directory: string): Promise<ClusterTls & { readonly server: Issued }> {
  await mkdir(directory, { recursive: true });
  const authority = await createAuthority(directory);
  const [server, client, root] = await Promise.all([
    authority.issue({ commonName: "etcd", fileName: "server" }),
    authority.issue({ commonName: "client", usage: "client" }),
    authority.issue({ commonName: "root", usage: "client" }),
  ]);
  return { ...client, ca: authority.ca, server, root, authority, directory };
}

function portAt(ports: readonly number[], index: number): number {
  const port = ports[index];
  if (port === undefined) throw new Error(`no port was reserved for ${index}`);
  return port;
}

async function answers(url: string): Promise<boolean> {
  return await fetch(url, { signal: AbortSignal.timeout(3_000) }).then(
    async (response) => {
      await response.body?.cancel();
      return response.ok;
    },
    () => false,
  );
}

const passing =
  /leader changed|no leader|timed out|deadline|unhealthy cluster|not enough started members|Unavailable|connection refused/;

// An election, or a cluster that was formed so recently that it refuses a change of members: both pass. What is asked
// here may be asked twice.
export async function patiently(attempt: () => Promise<string>): Promise<string> {
  const deadline = AbortSignal.timeout(60_000);
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (deadline.aborted || !(error instanceof Error) || !passing.test(error.message)) throw error;
      await sleep(250);
    }
  }
}

function parseRange(text: string): { readonly kvs?: readonly { readonly value?: string }[] } {
  return JSON.parse(text) as { readonly kvs?: readonly { readonly value?: string }[] };
}
