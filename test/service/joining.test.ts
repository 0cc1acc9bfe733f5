import { expect, test } from "vitest";
import { withJoinFlags } from "../../src/service/join-manifest.ts";
import { joinByEnvironmentFile } from "../../src/service/joining.ts";
import { openStaticPod } from "../../src/service/static-pod.ts";
import { fakeHost, type FakeHost } from "../fakes/host.ts";

const { signal } = new AbortController();
const cluster = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380";
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

async function contentOf(host: FakeHost, path: string): Promise<string | undefined> {
  const bytes = await host.readFile(path, 2 ** 20, signal);
  return bytes && new TextDecoder().decode(bytes);
}

const before = `# by hand
ETCD_NAME=m2
export ETCD_INITIAL_CLUSTER="m1=http://old:2380"
#ETCD_INITIAL_CLUSTER_STATE=new
ETCD_DATA_DIR=/var/lib/etcd
`;

test("an environment file says how to join until that is done, and is then the very file it was", async () => {
  const host = fakeHost("h2");
  const path = "/etc/default/etcd";
  await host.makeDirectory("/etc/default", { mode: 0o755 }, signal);
  await host.writeFile(path, utf8(before), { mode: 0o640, owner: { uid: 5, gid: 6 } }, signal);
  const calls: string[] = [];
  const joining = joinByEnvironmentFile(host, {
    name: "etcd",
    path,
    stateDirectory: "/var/lib/ours",
    check: async () => void calls.push("check"),
    start: async () => void calls.push("start"),
  });
  expect(await joining.describe(signal)).toContain("stand in /etc/default/etcd until it has joined");
  for (const end of ["finish", "undo"] as const) {
    await joining.prepare("01A", cluster, signal);
    // Twice is once: what is kept is the file of before.
    await joining.prepare("01A", cluster, signal);
    expect(await contentOf(host, path)).toBe(`# by hand
ETCD_NAME=m2
export ETCD_INITIAL_CLUSTER="${cluster}"
#ETCD_INITIAL_CLUSTER_STATE=new
ETCD_DATA_DIR=/var/lib/etcd
ETCD_INITIAL_CLUSTER_STATE="existing"
`);
    expect(await host.stat(path, signal)).toMatchObject({ mode: 0o640, uid: 5, gid: 6 });
    expect(await host.stat("/var/lib/ours/joining/etcd.01A", signal)).toMatchObject({ mode: 0o600 });
    await joining.start(cluster, signal);
    await joining[end]("01A", signal);
    await joining[end]("01A", signal);
    expect(await contentOf(host, path)).toBe(before);
    expect(await host.list("/var/lib/ours/joining", signal)).toEqual([]);
  }
  expect(calls).toContain("start");
  await host.removeFile(path, signal);
  await expect(joining.describe(signal)).rejects.toMatchObject({ code: "service-unjoinable" });
});

const manifest = `apiVersion: v1
kind: Pod
metadata:
  name: etcd
spec:
  containers:
  - name: etcd
    image: etcd:3.6 # by hand
    command:
    - /usr/local/bin/etcd
    - --name=m2
    - --initial-cluster=m2=https://10.0.0.2:2380
    - --data-dir=/var/lib/etcd
`;

test("a manifest gets the flags of a join, and nothing else of it changes", () => {
  expect(withJoinFlags(manifest, cluster)).toBe(
    `${manifest
      .replace("m2=https://10.0.0.2:2380", cluster)
      .replace(/^ {2}- name/m, "    - name")
      .replace(/^ {4}(image|command)/gm, "      $1")
      .replace(/^ {4}- (\/|--)/gm, "        - $1")}        - --initial-cluster-state=existing\n`,
  );
  const apart = manifest.replace("--initial-cluster=m2=https", "--initial-cluster\n    - m2=https");
  expect(withJoinFlags(apart, cluster)).toContain(`- --initial-cluster\n        - ${cluster}\n`);
  const shell = manifest.replace("/usr/local/bin/etcd", "/bin/sh");
  expect(() => withJoinFlags(shell, cluster)).toThrow("does not give etcd its flags one by one");
});

test("a static pod joins by the flags in its held manifest, and is as it was when that is taken back", async () => {
  const host = fakeHost("h2");
  const at = "/etc/kubernetes/manifests/etcd.yaml";
  await host.makeDirectory("/etc/kubernetes/manifests", { mode: 0o755 }, signal);
  await host.writeFile(at, utf8(manifest), { mode: 0o600 }, signal);
  const options = { name: "etcd", role: "etcd", pod: "etcd", manifests: "/etc/kubernetes/manifests" } as const;
  const service = openStaticPod(host, options);
  expect(await service.joining?.describe(signal)).toContain(`are written into ${at}, and stay there`);
  await expect(service.joining?.prepare("01A", cluster, signal)).rejects.toMatchObject({ code: "service-failed" });
  await service.hold("01A", signal);
  await service.joining?.prepare("01A", cluster, signal);
  await service.joining?.prepare("01A", cluster, signal);
  await service.joining?.undo("01A", signal);
  await service.release(signal);
  expect(await contentOf(host, at)).toBe(manifest);
  await service.hold("01A", signal);
  await service.joining?.prepare("01A", cluster, signal);
  await service.release(signal);
  await service.joining?.start(cluster, signal);
  await service.joining?.finish("01A", signal);
  expect(await contentOf(host, at)).toContain("--initial-cluster-state=existing");
  expect(await host.list("/etc/kubernetes/etcd-lifeboat-held-manifests", signal)).toEqual([]);
});
