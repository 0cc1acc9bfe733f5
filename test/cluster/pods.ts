import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startCluster, type ClusterOptions, type TestCluster } from "./harness.ts";
import { reservePorts } from "./ports.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";

/**
 * A control plane of static pods, as kubeadm makes one: each "host" is a directory of this machine with manifests, a kubelet that watches it, and etcd, an API server's stand-in and
 * a controller's for pods. etcd's own flags say one directory on every host, and the volumes another on each.
 */
export interface Pods extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly site: Site;
  /** The directory that the kubelet of a host watches; hosts are h1, h2, h3. */
  readonly manifestsOf: (host: string) => string;
  /** Kills everything of a host, and starts what a boot starts: the kubelet. */
  readonly reboot: (host: string) => Promise<void>;
  /** The names of the pods whose programs run on a host, as the kernel knows them. */
  readonly running: (host: string) => Promise<readonly string[]>;
  /** Moves a manifest out of the kubelet's sight, waits until its pod is gone, and gives a function that moves it back. */
  readonly takeAway: (host: string, pod: string) => Promise<() => Promise<void>>;
}

const standins = fileURLToPath(new URL("../standins", import.meta.url));

export const podNames = ["etcd", "kube-apiserver", "kube-controller-manager"] as const;

interface PodHost {
  readonly name: string;
  readonly directory: string;
  readonly manifests: string;
  readonly logs: string;
  /** Words of each pod's command line that no other one has together. */
  readonly marks: ReadonlyMap<string, readonly string[]>;
  kubelet: ChildProcess;
}

export async function openPods(options: Pick<ClusterOptions, "minor" | "tls"> = {}): Promise<Pods> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(await startCluster({ ...options, members: 3 }));
  const { tls, members, endpoints } = cluster;
  const site = stack.use(
    await openSite({
      cluster: {
        name: "prod",
        endpoints: [...endpoints],
        ...(tls && { tls: { ca: tls.ca, cert: tls.root.cert, key: tls.root.key } }),
      },
      signed: true,
    }),
  );
  // From here on kubelets run them, not the test.
  await Promise.all(members.map((member) => member.stop()));
  const ports = await reservePorts(members.length);
  const hosts: PodHost[] = [];
  const configured: NonNullable<ConfigInput["hosts"]> = {};
  for (const [index, member] of members.entries()) {
    const name = `h${index + 1}`;
    const port = ports[index] ?? 0;
    const at = (...names: readonly string[]): string => join(site.directory, name, ...names);
    for (const directory of ["manifests", "logs", "api", "var-lib-etcd"])
      await mkdir(at(directory), { recursive: true });
    // As kubeadm leaves it: the first knows only itself, the others those that were there.
    const known = members.slice(0, index + 1).map((one) => `${one.name}=${one.peerUrl}`);
    const inside = at("var-lib-etcd");
    const etcd = member.argv.map((word) =>
      word
        .replace(/^--data-dir=.*/, `--data-dir=${inside}`)
        .replace(/^--initial-cluster=.*/, `--initial-cluster=${known.join(",")}`)
        .replace(/^--initial-cluster-state=.*/, `--initial-cluster-state=${index === 0 ? "new" : "existing"}`),
    );
    const credentials = tls === undefined ? [] : [tls.ca, tls.root.cert, tls.root.key];
    const program = join(standins, "api-server.ts");
    const api = [process.execPath, program, `api${index + 1}`, String(port), endpoints.join(","), ...credentials];
    // Nobody else on this machine sleeps for so long.
    const controller = ["sleep", `9${process.pid}${port}`];
    const volumes = [{ name: "etcd-data", hostPath: { path: member.dataDirectory, type: "DirectoryOrCreate" } }];
    const pods = [
      podOf("etcd", { command: etcd, volumeMounts: [{ name: "etcd-data", mountPath: inside }] }, { volumes }),
      podOf("kube-apiserver", { command: api, workingDir: at("api") }),
      podOf("kube-controller-manager", { command: controller }),
    ];
    for (const [pod, text] of pods) await writeFile(at("manifests", `${pod}.yaml`), text);
    const marks = new Map<string, readonly string[]>([
      ["etcd", [etcd[0] ?? "", `--data-dir=${inside}`]],
      ["kube-apiserver", api],
      ["kube-controller-manager", controller],
    ]);
    const [manifests, logs] = [at("manifests"), at("logs")];
    hosts.push({ name, directory: at(), manifests, logs, marks, kubelet: await startKubelet(manifests, logs) });
    configured[name] = {
      reach: "local",
      manifests,
      stateDirectory: at("state"),
      etcd: { member: member.name, service: { staticPod: "etcd" }, dataDirectory: member.dataDirectory },
      services: [
        {
          name: "kube-apiserver",
          role: "api-server",
          staticPod: "kube-apiserver",
          ready: `http://127.0.0.1:${port}/readyz`,
        },
        { name: "kube-controller-manager", role: "controller", staticPod: "kube-controller-manager" },
      ],
    };
  }
  stack.defer(async () => {
    await Promise.all(hosts.map(({ kubelet }) => stopKubelet(kubelet)));
  });
  site.config.hosts = configured;
  site.config.operations = { directory: join(site.directory, "operations") };
  await cluster.put("lifeboat/ready", "yes");
  const hostOf = (name: string): PodHost => {
    const found = hosts.find((host) => host.name === name);
    if (found === undefined) throw new Error(`there is no host ${name}`);
    return found;
  };
  const pods: Pods = {
    cluster,
    site,
    manifestsOf: (name) => hostOf(name).manifests,
    async reboot(name) {
      const host = hostOf(name);
      await stopKubelet(host.kubelet);
      host.kubelet = await startKubelet(host.manifests, host.logs);
    },
    async running(name) {
      const lines = await commandLines();
      const runs = (words: readonly string[]): boolean =>
        lines.some((line) => words.every((word) => line.includes(word)));
      return [...hostOf(name).marks].flatMap(([pod, words]) => (runs(words) ? [pod] : []));
    },
    async takeAway(name, pod) {
      const { manifests, directory } = hostOf(name);
      const [from, to] = [join(manifests, `${pod}.yaml`), join(directory, `${pod}.yaml`)];
      await rename(from, to);
      while ((await pods.running(name)).includes(pod)) await new Promise((resolve) => setTimeout(resolve, 50));
      return async () => await rename(to, from);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  const owned = stack.move();
  return pods;
}

function podOf(name: string, container: object, others: object = {}): readonly [name: string, text: string] {
  const spec = {
    terminationGracePeriodSeconds: 20,
    containers: [{ name, image: `example/${name}`, ...container }],
    ...others,
  };
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "kube-system" }, spec };
  return [name, `${JSON.stringify(pod, null, 2)}\n`];
}

/** It notices a change some time later, as a kubelet does. */
async function startKubelet(manifests: string, logs: string): Promise<ChildProcess> {
  const child = fork(join(standins, "kubelet.ts"), [manifests, logs, "700"], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  await once(child, "message");
  return child;
}

async function stopKubelet(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  await once(child, "exit");
}

async function commandLines(): Promise<readonly (readonly string[])[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")), // It ended meanwhile.
  );
  // What mounts its volumes is not yet the container's program.
  return lines.map((line) => line.split("\0")).filter(([program]) => program !== "unshare" && program !== "sh");
}
