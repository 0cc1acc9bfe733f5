import { expect, test } from "vitest";
import { withJoinFlags } from "../../src/service/join-manifest.ts";
import { openSystemdService } from "../../src/service/systemd.ts";
import { joinByEnvironmentFile } from "../../src/service/joining.ts";
import { openStaticPod } from "../../src/service/static-pod.ts";
import { fakeHost, type FakeHost } from "../fakes/host.ts";
import { fakeSystemd } from "../fakes/systemctl.ts";

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

const fragment = "/etc/systemd/system/etcd.service";
const joinDropIn = "/etc/systemd/system/etcd.service.d/zzzz-etcd-lifeboat-join.conf";

/** A host whose unit is this text, and its service. */
async function unitOf(text: string, changes: { environment?: string; files?: Record<string, string> } = {}) {
  const host = fakeHost("h2");
  await host.makeDirectory("/etc/systemd/system", { mode: 0o755 }, signal);
  const files = { [fragment]: text, ...changes.files };
  for (const [path, content] of Object.entries(files)) {
    await host.makeDirectory(path.slice(0, path.lastIndexOf("/")), { mode: 0o755 }, signal);
    await host.writeFile(path, utf8(content), { mode: 0o644 }, signal);
  }
  const systemd = fakeSystemd(host, ["etcd.service"]);
  const unit = systemd.units.get("etcd.service")!;
  Object.assign(unit, { fragment, environment: changes.environment });
  systemd.start("etcd.service");
  return { host, unit, service: openSystemdService(host, { name: "etcd", role: "etcd", unit: "etcd.service" }) };
}

const handWritten = `[Unit]
Description=etcd
[Service]
Type=notify
ExecStart=/usr/bin/false
ExecStart=
ExecStart=/usr/local/bin/etcd \\
  --name m2 \\
# the first start of all
  --initial-cluster-token etcd-cluster-0 \\
  "--initial-cluster=m2=https://10.0.0.2:2380" \\
  --initial-cluster-state new \\
  --data-dir=/var/lib/etcd
Restart=on-failure
[Install]
WantedBy=multi-user.target
`;

test("a unit with its flags in it joins by a drop-in, and is what it was once that is done or taken back", async () => {
  const { host, service } = await unitOf(handWritten);
  const found = host.tree();
  expect(await service.joining?.describe(signal)).toContain("stand in a drop-in of etcd.service until it has joined");
  expect(host.tree()).toEqual(found);
  for (const end of ["finish", "undo"] as const) {
    await service.hold("01A", signal);
    await service.stop(signal);
    await service.joining?.prepare("01A", cluster, signal);
    // Twice is once: it is made of the unit, not of itself.
    await service.joining?.prepare("01A", cluster, signal);
    expect(await contentOf(host, joinDropIn)).toBe(
      `# Written by etcd-lifeboat: operation 01A lets this member join by it, and removes it then.\n[Service]\nExecStart=\n` +
        `ExecStart=/usr/local/bin/etcd --name m2 --initial-cluster-token etcd-cluster-0 --initial-cluster=${cluster} --initial-cluster-state=existing --data-dir=/var/lib/etcd\n`,
    );
    await expect(service.joining?.start(cluster, signal)).rejects.toMatchObject({ code: "service-held" });
    await service.release(signal);
    expect(await contentOf(host, joinDropIn)).toContain("ExecStart=/usr");
    await service.joining?.start(cluster, signal);
    expect((await service.state(signal)).running).toBe(true);
    await service.joining?.[end]("01A", signal);
    await service.joining?.[end]("01A", signal);
    expect(host.tree()).toEqual(found);
  }
});

test("no name or address of a member becomes a line of a unit, or a command or a variable of a file", async () => {
  const { host, service } = await unitOf(handWritten, {});
  const line = "m2=https://10.0.0.2:2380\nExecStart=-/bin/sh -c id";
  await expect(service.joining?.prepare("01A", line, signal)).rejects.toMatchObject({ code: "service-unjoinable" });
  const path = "/etc/default/etcd";
  await host.makeDirectory("/etc/default", { mode: 0o755 }, signal);
  await host.writeFile(path, new TextEncoder().encode("ETCD_NAME=m2\n"), { mode: 0o644 }, signal);
  const joining = joinByEnvironmentFile(host, {
    name: "etcd",
    path,
    stateDirectory: "/var/lib/ours",
    check: async () => await Promise.resolve(),
    start: async () => await Promise.resolve(),
  });
  for (const evil of [
    'm2=https://10.0.0.2:2380"\nETCD_CLIENT_CERT_AUTH=false\n#',
    "m2=https://10.0.0.2:2380$(id)",
    "m2=`id`",
  ])
    await expect(joining.prepare("01A", evil, signal)).rejects.toMatchObject({ code: "service-unjoinable" });
  expect(await contentOf(host, path)).toBe("ETCD_NAME=m2\n");
});

test("other drop-ins of the unit are read as systemd reads them, and names and addresses are safe in a unit", async () => {
  const override = "/etc/systemd/system/etcd.service.d/10-override.conf";
  const files = { [override]: "[Service]\nExecStart=\nExecStart=-/opt/etcd --name=m2\n" };
  const { host, service } = await unitOf(handWritten, { files });
  // It is loaded by whoever reloads first.
  await service.hold("01A", signal);
  const strange = 'm"1$=https://[fe80::1%25eth0]:2380';
  await service.joining?.prepare("01A", strange, signal);
  expect(await contentOf(host, joinDropIn)).toContain(
    'ExecStart=-/opt/etcd --name=m2 "--initial-cluster=m\\"1$$=https://[fe80::1%%25eth0]:2380" --initial-cluster-state=existing\n',
  );
  await service.joining?.undo("01A", signal);
  expect(await host.list("/etc/systemd/system/etcd.service.d", signal)).toContain("10-override.conf");
});

test.each([
  ["no command line", "[Service]\n", {}, "has 0 lines of ExecStart="],
  ["a shell", '[Service]\nExecStart=/bin/bash -c "etcd --name m2"\n', {}, "starts etcd by a shell"],
  ["a file of settings", "[Service]\nExecStart=/usr/bin/etcd --config-file /etc/etcd.yml\n", {}, "configuration file"],
  ["a variable", "[Service]\nExecStart=/usr/bin/etcd --initial-cluster ${ALL}\n", {}, "variables for its members"],
  [
    "its environment",
    "[Service]\nExecStart=/usr/bin/etcd\n",
    { environment: "ETCD_NAME=m2 ETCD_INITIAL_CLUSTER_STATE=new" },
    "has ETCD_INITIAL_CLUSTER in its environment",
  ],
])("a unit that says who is a member by %s is refused with what helps", async (_how, text, changes, why) => {
  const { service } = await unitOf(text, changes);
  await expect(service.joining?.describe(signal)).rejects.toMatchObject({
    code: "service-unjoinable",
    message: expect.stringContaining(why) as string,
    hint: expect.stringContaining("hosts.h2.etcd.environmentFile") as string,
  });
});
