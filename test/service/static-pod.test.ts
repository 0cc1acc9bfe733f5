import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openLocalHost } from "../../src/host/local.ts";
import { readManifest } from "../../src/service/manifest.ts";
import { openStaticPod } from "../../src/service/static-pod.ts";
import { serviceContract } from "../contracts/service.ts";
import { fakeHost } from "../fakes/host.ts";

const signal = new AbortController().signal;
const program = fileURLToPath(new URL("../standins/kubelet.ts", import.meta.url));

const manifestOf = (name: string, command: readonly string[]): string =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "kube-system" },
    spec: { containers: [{ name, image: "example/etcd:3.6.16", command }] },
  });

/** A kubelet of its own, and a directory that it watches. */
async function startKubelet(manifests: string): Promise<ChildProcess> {
  const child = fork(program, [manifests], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  await once(child, "message");
  return child;
}

async function stopKubelet(child: ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  await once(child, "exit");
}

serviceContract("a static pod", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-pods-"));
  const manifests = join(directory, "manifests");
  await mkdir(manifests);
  // Nobody else on this machine sleeps for so long.
  await writeFile(join(manifests, "etcd.yaml"), manifestOf("etcd", ["sleep", `7${process.pid}`]));
  let kubelet = await startKubelet(manifests);
  return {
    service: openStaticPod(openLocalHost("cp1"), { name: "etcd", role: "etcd", pod: "etcd", manifests }),
    reboot: async () => {
      await stopKubelet(kubelet);
      kubelet = await startKubelet(manifests);
    },
    // A restart of the kubelet is all that anybody can do but to put the manifest back.
    meddle: async () => {
      await stopKubelet(kubelet);
      kubelet = await startKubelet(manifests);
    },
    [Symbol.asyncDispose]: async () => {
      await stopKubelet(kubelet);
      await rm(directory, { recursive: true, force: true });
    },
  };
});

describe("a manifest", () => {
  const manifests = "/etc/kubernetes/manifests";
  const held = "/etc/kubernetes/etcd-lifeboat-held-manifests";
  const rig = async () => {
    const host = fakeHost("cp1");
    host.programs.set("crictl", () => ({ status: 1 }));
    await host.makeDirectory(manifests, { mode: 0o755 }, signal);
    const write = async (file: string, text = manifestOf("etcd", ["etcd", "--name=cp1"])): Promise<void> =>
      await host.writeFile(`${manifests}/${file}`, Buffer.from(text), { mode: 0o600 }, signal);
    return { host, write, service: openStaticPod(host, { name: "etcd", role: "etcd", pod: "etcd", manifests }) };
  };

  test("is moved away and back as it is, and nothing is left", async () => {
    const { host, write, service } = await rig();
    await write("etcd.yaml");
    const before = host.tree();
    await service.hold("01A", signal);
    expect(await host.list(manifests, signal)).toEqual([]);
    expect(await host.list(held, signal)).toEqual([".etcd.yaml.operation", "etcd.yaml"]);
    await service.release(signal);
    expect(host.tree()).toEqual({ ...before, [held]: "(directory)" });
  });

  test("stays on its file system where the directory is a mount point: in it, under a name with a dot", async () => {
    const { host, write, service } = await rig();
    host.mounts.set(manifests, "2");
    await write("etcd.yaml");
    await service.hold("01A", signal);
    const names = await host.list(manifests, signal);
    expect(names?.filter((name) => !name.startsWith("."))).toEqual([]);
    expect(await service.state(signal)).toMatchObject({ heldBy: "01A", boots: "no" });
    await service.release(signal);
    expect(await host.list(manifests, signal)).toEqual(["etcd.yaml"]);
  });

  test("is found whatever its file is called", async () => {
    const { host, write, service } = await rig();
    await write("10-etcd.manifest");
    await service.hold("01A", signal);
    await service.release(signal);
    expect(await host.list(manifests, signal)).toEqual(["10-etcd.manifest"]);
  });

  test("of which there is a copy is refused: the kubelet runs both, and moving one would stop nothing", async () => {
    const { write, service } = await rig();
    await write("etcd.yaml");
    await write("etcd.yaml.bak");
    await expect(service.hold("01A", signal)).rejects.toMatchObject({
      code: "service-unknown",
      message: expect.stringContaining("etcd.yaml and etcd.yaml.bak") as string,
    });
  });

  test("that somebody put back while it is held is told", async () => {
    const { write, service } = await rig();
    await write("etcd.yaml");
    await service.hold("01A", signal);
    await write("etcd.yaml");
    await expect(service.state(signal)).rejects.toMatchObject({
      code: "service-unknown",
      message: expect.stringContaining("somebody put it back") as string,
    });
  });

  test("that is not there is no stopped service", async () => {
    const { service } = await rig();
    await expect(service.state(signal)).rejects.toMatchObject({ code: "service-unknown" });
  });

  test("with a shell for a program is judged by the container runtime, or not at all", async () => {
    const { host, write, service } = await rig();
    await write("etcd.yaml", manifestOf("etcd", ["/bin/sh", "-ec", "exec etcd"]));
    await expect(service.state(signal)).rejects.toMatchObject({ code: "service-unknown" });
    host.programs.set("crictl", () => ({ stdout: `${"ab".repeat(32)}\n` }));
    expect(await service.state(signal)).toMatchObject({ running: true });
    host.programs.set("crictl", () => ({ stdout: "" }));
    expect(await service.state(signal)).toMatchObject({ running: false });
  });

  test("is where etcd's own settings are read, held or not", async () => {
    const { write, service } = await rig();
    await write("etcd.yaml", manifestOf("etcd", ["etcd", "--name=cp1", "--data-dir=/var/lib/etcd"]));
    expect(await service.settings?.(signal)).toMatchObject({ name: "cp1", from: `${manifests}/etcd.yaml` });
    await service.hold("01A", signal);
    expect(await service.settings?.(signal)).toMatchObject({ name: "cp1", from: `${held}/etcd.yaml` });
  });

  test("that is away while its pod still runs, or is there while none does, says whom to look at", async () => {
    const { host, write, service } = await rig();
    await write("etcd.yaml");
    expect((await service.state(signal)).detail).toContain("its manifest is there, and the kubelet does not keep it");
    host.programs.set("crictl", () => ({ stdout: `${"ab".repeat(32)}\n` }));
    expect((await service.state(signal)).detail).not.toContain("kubelet");
    await service.hold("01A", signal);
    expect(await service.state(signal)).toMatchObject({
      running: true,
      detail: expect.stringContaining("its manifest is away, and the kubelet has not stopped it yet") as string,
    });
  });

  test("cannot be stopped in another way than by holding it", async () => {
    const { write, service } = await rig();
    await write("etcd.yaml");
    await expect(service.stop(signal)).rejects.toMatchObject({ code: "service-failed" });
  });
});

describe("what a manifest says", () => {
  test("the data directory is the volume's hostPath, not what the flag says inside of the container", () => {
    const text = `
apiVersion: v1
kind: Pod
metadata: { name: etcd }
spec:
  containers:
    - name: etcd
      image: registry.example.org/etcd:3.6.16-0
      command: [etcd, --data-dir=/var/lib/etcd, --wal-dir, /wal/sub]
      volumeMounts:
        - { name: everything, mountPath: /var }
        - { name: data, mountPath: /var/lib/etcd }
        - { name: wal, mountPath: /wal/ }
  volumes:
    - { name: everything, hostPath: { path: /srv/var } }
    - { name: data, hostPath: { path: /srv/etcd-2/, type: DirectoryOrCreate } }
    - { name: wal, hostPath: { path: /opt/wal } }
`;
    expect(readManifest(text)).toEqual({
      name: "etcd",
      containers: [
        {
          name: "etcd",
          image: "registry.example.org/etcd:3.6.16-0",
          argv: ["etcd", "--data-dir=/var/lib/etcd", "--wal-dir", "/wal/sub"],
          etcd: {
            name: undefined,
            data: { inside: "/var/lib/etcd", onHost: "/srv/etcd-2" },
            wal: { inside: "/wal/sub", onHost: "/opt/wal/sub" },
            forceNewCluster: false,
          },
        },
      ],
    });
  });

  const settingsOf = (container: object) =>
    readManifest(JSON.stringify({ kind: "Pod", metadata: { name: "etcd" }, spec: { containers: [container] } }))
      ?.containers[0]?.etcd;

  test("is read from its flags and its environment, and a directory on no hostPath is told as gone with the pod", () => {
    const env = [
      { name: "ETCD_NAME", value: "cp1" },
      { name: "ETCD_DATA_DIR", value: "/data" },
    ];
    expect(settingsOf({ command: ["etcd", "-force-new-cluster=true"], env })).toEqual({
      name: "cp1",
      data: { inside: "/data", onHost: undefined },
      wal: undefined,
      forceNewCluster: true,
    });
    expect(settingsOf({ args: ["--data-dir=/data", "--force-new-cluster"] })?.forceNewCluster).toBe(true);
    expect(settingsOf({ args: ["--data-dir=/data", "--force-new-cluster=false"] })?.forceNewCluster).toBe(false);
  });

  test("is not guessed where a configuration file says it, or a shell", () => {
    expect(settingsOf({ command: ["etcd", "--data-dir=/data", "--config-file=/etc/etcd.yaml"] })).toBeUndefined();
    expect(settingsOf({ command: ["/bin/sh", "-ec", "exec etcd --data-dir=/data"] })).toBeUndefined();
  });

  test.each(["", "a: [", "kind: ConfigMap\nmetadata: { name: etcd }", "- 1", "kind: Pod"])("%j is no pod", (text) => {
    expect(readManifest(text)).toBeUndefined();
  });
});

test("the stand-in for a kubelet runs whatever does not begin with a dot, and starts it again", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-pods-"));
  const kubelet = await startKubelet(directory);
  const host = openLocalHost("cp1");
  const seconds = `8${process.pid}`;
  const pids = async (): Promise<readonly number[]> =>
    (await host.processes(signal)).filter(({ argv }) => argv[1] === seconds).map(({ pid }) => pid);
  try {
    await writeFile(join(directory, ".new.yaml"), manifestOf("a", ["sleep", seconds]));
    await writeFile(join(directory, "a.yaml.bak"), await readFile(join(directory, ".new.yaml")));
    await expect.poll(async () => (await pids()).length).toBe(1);
    const [first = 0] = await pids();
    process.kill(first, "SIGKILL");
    await expect.poll(async () => (await pids()).filter((pid) => pid !== first).length).toBe(1);
    expect(await readdir(directory)).toHaveLength(2);
  } finally {
    await stopKubelet(kubelet);
    await rm(directory, { recursive: true, force: true });
  }
});
