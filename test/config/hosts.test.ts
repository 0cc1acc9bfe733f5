import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { examineConfig, loadConfig } from "../../src/config/load.ts";
import { scratchFile } from "./scratch.ts";

const config = (sections: object): string =>
  scratchFile(
    "config.yaml",
    stringify({
      cluster: { name: "prod", endpoints: ["http://127.0.0.1:2379"] },
      repository: { store: { directory: "/var/backups/etcd" } },
      ...sections,
    }),
  );

const load = (sections: object) => loadConfig({ path: config(sections), env: {}, files: false });

function told(sections: object): readonly string[] {
  const examined = examineConfig({ path: config(sections), env: {}, files: false });
  if (examined.kind === "loaded") throw new Error("it was accepted");
  return examined.problems.map(({ about, message }) => `${about}: ${message}`);
}

const etcd = (member: string, dataDirectory: string) => ({
  member,
  dataDirectory,
  service: { systemd: "etcd.service" },
});

test("a host has a way to be reached, and for each service one way to run it", () => {
  const { config: read } = load({
    hosts: {
      cp1: {
        reach: "local",
        etcd: {
          ...etcd("cp1", "/var/lib/etcd"),
          walDirectory: "/opt/etcd/wal",
          environmentFile: "/etc/default/etcd",
          peerUrls: ["https://10.0.1.1:2380"],
        },
        services: [
          { name: "scheduler", role: "controller", staticPod: "kube-scheduler" },
          {
            name: "api",
            role: "api-server",
            command: {
              start: ["/opt/bin/api", "start"],
              stop: ["/opt/bin/api", "stop"],
              probe: ["/opt/bin/api", "status"],
            },
            ready: "https://10.0.0.11:6443/readyz",
          },
        ],
      },
    },
  });
  expect(read.hosts).toStrictEqual({
    cp1: {
      reach: "local",
      manifests: "/etc/kubernetes/manifests",
      stateDirectory: "/var/lib/etcd-lifeboat",
      etcd: {
        member: "cp1",
        service: { kind: "systemd", unit: "etcd.service" },
        dataDirectory: "/var/lib/etcd",
        walDirectory: "/opt/etcd/wal",
        environmentFile: "/etc/default/etcd",
        peerUrls: ["https://10.0.1.1:2380"],
      },
      services: [
        { name: "scheduler", role: "controller", way: { kind: "static-pod", pod: "kube-scheduler" } },
        {
          name: "api",
          role: "api-server",
          way: {
            kind: "command",
            start: ["/opt/bin/api", "start"],
            stop: ["/opt/bin/api", "stop"],
            probe: ["/opt/bin/api", "status"],
            timeoutMs: 90_000,
          },
          ready: "https://10.0.0.11:6443/readyz",
        },
      ],
    },
  });
});

test("hosts behind ssh are refused in words that say so", () => {
  expect(told({ hosts: { db2: { reach: { ssh: { destination: "ops@10.0.0.12" } } } } })).toStrictEqual([
    "hosts.db2.reach: must be local (hosts behind ssh are not in this version of etcd-lifeboat), not a section",
  ]);
});

const command = { start: ["/opt/api", "start"], stop: ["/opt/api", "stop"], probe: ["/opt/api", "status"] };
const one = (services: readonly object[]) => ({ hosts: { cp1: { reach: "local", services } } });

describe("what cannot be is refused", () => {
  test.each<[string, object, string]>([
    [
      "a member on two hosts",
      {
        hosts: {
          cp1: { reach: "local", etcd: etcd("cp1", "/var/lib/a") },
          cp2: { reach: "local", etcd: { ...etcd("cp1", "/var/lib/b"), service: { systemd: "other.service" } } },
        },
      },
      "hosts.cp2.etcd.member: is that of hosts.cp1.etcd.member already",
    ],
    [
      "one directory for two members",
      {
        hosts: {
          cp1: { reach: "local", etcd: etcd("cp1", "/var/lib/a") },
          cp2: { reach: "local", etcd: { ...etcd("cp2", "/var/lib/a"), service: { systemd: "other.service" } } },
        },
      },
      "hosts.cp2.etcd.dataDirectory: is that of hosts.cp1.etcd.dataDirectory already",
    ],
    [
      "a directory of ours inside of etcd's",
      {
        hosts: { cp1: { reach: "local", stateDirectory: "/var/lib/a/ours", etcd: etcd("cp1", "/var/lib/a") } },
      },
      "hosts.cp1.stateDirectory: is inside of hosts.cp1.etcd.dataDirectory, which is etcd's own",
    ],
    [
      "one unit for two things",
      one([
        { name: "a", role: "client", systemd: "a.service" },
        { name: "b", role: "client", systemd: "a.service" },
      ]),
      "hosts.cp1.services[1].systemd: is that of hosts.cp1.services[0].systemd already",
    ],
    [
      "two ways to run one service",
      one([{ name: "a", role: "client", systemd: "a.service", staticPod: "a" }]),
      "hosts.cp1.services[0]: must name exactly one of systemd, staticPod and command",
    ],
    [
      "no way to run it",
      one([{ name: "a", role: "client" }]),
      "hosts.cp1.services[0]: must name exactly one of systemd, staticPod and command",
    ],
    [
      "an unknown role",
      one([{ name: "a", role: "worker", systemd: "a.service" }]),
      'hosts.cp1.services[0].role: must be one of api-server, controller, client, not "worker"',
    ],
    [
      "disable without enable",
      one([{ name: "a", role: "client", command: { ...command, disable: ["/opt/api", "disable"] } }]),
      "hosts.cp1.services[0].command.disable: is of no use without enable; write both, or none",
    ],
    [
      "enabled without disable and enable",
      one([{ name: "a", role: "client", command: { ...command, enabled: ["/opt/api", "enabled"] } }]),
      "hosts.cp1.services[0].command.enabled: is of no use without disable and enable; write all three",
    ],
    [
      "a program that a PATH would have to find",
      { hooks: { "before-stop-etcd": { run: ["drain"] } } },
      "hooks.before-stop-etcd.run[0]: is no absolute path: name the program with all of it",
    ],
    [
      "a shell's line",
      { hooks: { "before-stop-etcd": { run: "/bin/drain --all" } } },
      "hooks.before-stop-etcd.run: must be a list: the program's absolute path, then each argument by itself; no shell reads it",
    ],
    ["a unit that is no service", one([{ name: "a", role: "client", systemd: "a" }]), "hosts.cp1.services[0].systemd"],
  ])("%s", (_, sections, expected) => {
    const [first, ...others] = told(sections);
    expect(first).toContain(expected);
    expect(others).toStrictEqual([]);
  });
});

test("a hook has a minute unless told otherwise", () => {
  const { config: read } = load({ hooks: { "on-failure": { run: ["/usr/local/bin/page", "--now"] } } });
  expect(read.hooks).toStrictEqual({
    "on-failure": { argv: ["/usr/local/bin/page", "--now"], timeoutMs: 60_000 },
  });
});

test("what a restore could not see or could not hold is warned of", () => {
  const { warnings } = load({
    hosts: {
      cp1: { reach: "local", services: [{ name: "api", role: "api-server", command }] },
      cp2: { reach: "local" },
    },
  });
  const about = warnings.map(({ about }) => about);
  expect(about).toContain("hosts.cp1.services[0].ready");
  expect(about).toContain("hosts.cp1.services[0].command");
  expect(about).toContain("hosts.cp2");
});
