import { execFile } from "node:child_process";
import { readFile, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { discardDirectory, makeDirectory } from "../cluster/directories.ts";
import { runProgram } from "../cluster/processes.ts";
import { etcdProgram, toolProgram } from "../cluster/servers.ts";
import { createAuthority } from "../cluster/tls.ts";
import { blocks, commandsIn, readPage, root } from "../docs/pages.ts";
import { bootHost, type Host } from "./host.ts";

/**
 * docs/operating/restore.md, word for word, on a booted systemd: etcd, an API server's stand-in and a controller's are units there. The tests go on from one another.
 */

const page = readPage("docs/operating/restore.md");
const pki = "/etc/kubernetes/pki";
const environment = "export HOME=/srv/operator NODE_COMPILE_CACHE=/tmp/node; mkdir -p $HOME; cd;";

let host: Host;
let directory: string;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, [join(root, "scripts/build.ts")]);
  directory = await makeDirectory("restorepage");
  const program = async (path: string): Promise<string> => await realpath(path);
  host = await bootHost({
    "/usr/local/bin/node": await program(process.execPath),
    "/usr/local/bin/etcd": await program(etcdProgram("3.6", "etcd")),
    "/usr/local/bin/etcdctl": await program(etcdProgram("3.6", "etcdctl")),
    "/usr/local/bin/etcdutl": await program(etcdProgram("3.6", "etcdutl")),
    "/usr/local/bin/age": await program(toolProgram("age")),
    "/usr/local/bin/zstd": await program(toolProgram("zstd")),
    "/srv/dist": join(root, "dist"),
    "/srv/checkout/test": join(root, "test"),
    "/srv/checkout/node_modules": join(root, "node_modules"),
    "/srv/checkout/package.json": join(root, "package.json"),
  });
  await host.sh("install -m 755 /srv/dist/etcd-lifeboat.cjs /usr/local/bin/etcd-lifeboat");
  await host.sh("install -d -m 700 /var/backups/etcd");
  await installUnits();
  await configure(hostsOf(yamlBlocks()[0] ?? ""));
  await host.sh("systemctl start etcd kube-apiserver kube-controller-manager");
  await ready();
});

afterAll(async () => {
  await host?.[Symbol.asyncDispose]();
  if (directory !== undefined) await discardDirectory(directory);
});

const credentials = `--cacert ${pki}/etcd/ca.crt --cert ${pki}/etcd/client.crt --key ${pki}/etcd/client.key`;

async function installUnits(): Promise<void> {
  const authority = await createAuthority(join(directory, "pki"));
  const server = await authority.issue({ commonName: "server" });
  const client = await authority.issue({ commonName: "root", usage: "client", fileName: "client" });
  await host.write(`${pki}/ca.crt`, await readFile(authority.ca, "utf8"));
  await host.write(`${pki}/apiserver-kubelet-client.crt`, await readFile(client.cert, "utf8"));
  await host.write(`${pki}/apiserver-kubelet-client.key`, await readFile(client.key, "utf8"), "600");
  for (const path of [authority.ca, server.cert, client.cert, server.key, client.key]) {
    await host.write(`${pki}/etcd/${basename(path)}`, await readFile(path, "utf8"), "600");
  }
  const urls =
    "--listen-peer-urls https://127.0.0.1:2380 --initial-advertise-peer-urls https://127.0.0.1:2380 --initial-cluster cp1=https://127.0.0.1:2380 " +
    "--listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379";
  const files = `--trusted-ca-file ${pki}/etcd/ca.crt --cert-file ${pki}/etcd/server.crt --key-file ${pki}/etcd/server.key`;
  const tls = `--client-cert-auth ${files} --peer-client-cert-auth ${files.replaceAll("--", "--peer-")}`;
  await host.sh("useradd --system etcd && install -d -o etcd -g etcd -m 700 /var/lib/etcd");
  await host.sh(`chown -R etcd ${pki}/etcd`);
  await unit(
    "etcd",
    `Type=notify\nUser=etcd\nExecStart=/usr/local/bin/etcd --name cp1 --data-dir /var/lib/etcd ${urls} ${tls}`,
  );
  const apiFiles = ["ca.crt", "client.crt", "client.key", "server.crt", "server.key"].map(
    (name) => `${pki}/etcd/${name}`,
  );
  const api = `/usr/local/bin/node /srv/checkout/test/standins/api-server.ts cp1 6443 https://127.0.0.1:2379 ${apiFiles.join(" ")}`;
  await unit("kube-apiserver", `ExecStart=${api}`);
  await unit("kube-controller-manager", "ExecStart=/usr/bin/sleep infinity");
}

async function unit(name: string, service: string): Promise<void> {
  await host.write(
    `/etc/systemd/system/${name}.service`,
    `[Service]\n${service}\nRestart=always\nRestartSec=1\n[Install]\nWantedBy=multi-user.target\n`,
  );
  await host.sh(`systemctl daemon-reload && systemctl enable -q ${name}`);
}

function yamlBlocks(): readonly string[] {
  return blocks(page).flatMap(({ language, code }) => (language === "yaml" ? [code] : []));
}

function hostsOf(code: string): object {
  return (parse(code) as { hosts: object }).hosts;
}

async function configure(hosts: object): Promise<void> {
  const key = join(directory, "age.key");
  if ((await host.run("test -e /srv/operator/age.key")).status !== 0) {
    await runProgram(toolProgram("age-keygen"), ["-o", key]);
    await host.write("/srv/operator/age.key", await readFile(key, "utf8"), "600");
  }
  const recipient = /public key: (age1\w+)/.exec(await readFile(key, "utf8"))?.[1] ?? "";
  const config = {
    cluster: {
      name: "prod",
      endpoints: ["https://127.0.0.1:2379"],
      tls: { ca: `${pki}/etcd/ca.crt`, cert: `${pki}/etcd/client.crt`, key: `${pki}/etcd/client.key` },
    },
    repository: {
      store: { directory: "/var/backups/etcd" },
      encryption: { recipients: [recipient], identity: { file: "/srv/operator/age.key" } },
    },
    schedules: [{ name: "hourly", cron: "0 * * * *" }],
    hosts,
  };
  await host.write("/etc/etcd-lifeboat/config.yaml", JSON.stringify(config, null, 2), "600");
}

/** The commands of one of the page's sections. */
function commandsOf(heading: string): readonly string[] {
  const commands = commandsIn(page, heading);
  for (const command of commands) ran.add(command);
  return commands;
}
const ran = new Set<string>();

/** Types it at a terminal, and the cluster's name when it asks. */
async function type(command: string): Promise<string> {
  const { status, stdout, stderr } = await host.run(
    `${environment} script --quiet --return --command '${command}' /dev/null`,
    "prod\n",
  );
  expect(status, `${command}\n${stdout}${stderr}`).toBe(0);
  return stdout;
}

async function sh(script: string): Promise<string> {
  return await host.sh(`${environment} ${script}`);
}

async function etcdctl(words: string): Promise<string> {
  return await host.sh(`etcdctl --endpoints https://127.0.0.1:2379 ${credentials} ${words}`);
}

async function ready(): Promise<void> {
  const asked = `curl -sf --cacert ${pki}/ca.crt https://127.0.0.1:6443/readyz || node -e 'fetch("https://127.0.0.1:6443/readyz").then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))'`;
  await host.sh(
    `export NODE_EXTRA_CA_CERTS=${pki}/ca.crt; for i in $(seq 60); do if ${asked} >/dev/null 2>&1; then exit 0; fi; sleep 1; done; journalctl -q -n 20 -o cat -u kube-apiserver -u etcd; exit 1`,
  );
}

async function running(): Promise<string> {
  return await host.sh("systemctl is-active etcd kube-apiserver kube-controller-manager || true");
}

const allRun = "active\nactive\nactive";

/** A restore that dies at a place of its plan. */
async function dieAt(place: string): Promise<void> {
  const flags = "--yes --confirm-cluster prod --quiet-seconds 3";
  const { status, stderr } = await host.run(
    `${environment} LIFEBOAT_FAILPOINTS=on LIFEBOAT_FAILPOINT='step ${place}' etcd-lifeboat restore ${flags} || exit $?`,
  );
  expect(status, `${place} was not reached:\n${stderr}`).toBe(137);
}

/** A backup of `then`, and `now` written after it. */
async function writeOn(): Promise<void> {
  await etcdctl("put /kept then");
  await sh("etcd-lifeboat backup");
  await etcdctl("put /kept now");
}

const kept = async (): Promise<string> => await etcdctl("get /kept --print-value-only");

describe("Before the worst day", () => {
  test("every example of hosts is one that the configuration takes", async () => {
    const examples = yamlBlocks();
    expect(examples.length).toBeGreaterThanOrEqual(3);
    for (const example of examples) {
      await configure(hostsOf(example));
      await sh("etcd-lifeboat config check");
    }
    await configure(hostsOf(examples[0] ?? ""));
  });
});

describe("Look first", () => {
  test("says what would be lost, and touches nothing", async () => {
    await writeOn();
    // The other one needs a backup with users: restore-kinds.test.ts of test/cluster restores such a one as somebody of then.
    const [plan = ""] = commandsOf("Look first");
    expect(await sh(`${plan} 2>&1`)).toContain("lost: ");
    expect(await kept()).toBe("now");
    expect(await running()).toBe(allRun);
  });
});

describe("Do it", () => {
  test("brings the cluster back when its name is typed", async () => {
    for (const command of commandsOf("Do it")) expect(await type(command)).toContain("restored by operation");
    expect(await kept()).toBe("then");
    expect(await running()).toBe(allRun);
    await ready();
  });
});

describe("When it stops", () => {
  test("its status says where, it goes on, and another one is taken back", async () => {
    const [status = "", resume = "", rollback = ""] = commandsOf("When it stops");
    await writeOn();
    await dieAt("swap.cp1 after perform");
    // Neither Restart= nor a hand brings back what is held.
    expect((await host.run("systemctl start etcd")).status).not.toBe(0);
    expect(await sh(status)).toContain("NOT FINISHED");
    await type(resume);
    expect(await kept()).toBe("then");
    expect(await running()).toBe(allRun);

    await writeOn();
    await dieAt("healthy after done");
    await type(rollback);
    expect(await kept()).toBe("now");
    expect(await running()).toBe(allRun);
    await ready();
  });
});

describe("When the machine you typed on is gone", () => {
  test("another one finds the operation by the copies of its journal, and goes on", async () => {
    const [status = "", resume = ""] = commandsOf("When the machine you typed on is gone");
    await writeOn();
    await dieAt("swap.cp1 after perform");
    await host.sh("rm -r /var/lib/etcd-lifeboat/operations");
    expect(await sh(status)).toMatch(/NOT FINISHED[^]*journal: a copy on host cp1$/m);
    await type(resume);
    expect(await kept()).toBe("then");
    expect(await running()).toBe(allRun);
    await ready();
  });
});

describe("Afterwards", () => {
  test("the old data of three restores, and what a member ran on before it was taken back, is listed, and goes when the name is typed", async () => {
    const [plan = "", cleanup = ""] = commandsOf("Afterwards");
    const aside = "find /var/lib/etcd -maxdepth 1 -name 'member.*' | wc -l";
    expect(await host.sh(aside)).toBe("4");
    await sh("etcd-lifeboat backup");
    expect((await sh(`${plan} 2>&1`)).match(/left by restore/g)).toHaveLength(4);
    expect(await host.sh(aside)).toBe("4");
    await type(cleanup);
    expect(await host.sh(aside)).toBe("0");
    // And with them the copies of their journals, by which those were known that the lost machine had run.
    const copies =
      "find /var/lib/etcd-lifeboat/journals /var/backups/etcd/operations -name '*.jsonl' 2>/dev/null || true";
    expect(await host.sh(copies)).toBe("");
    expect(await kept()).toBe("then");
    expect(await running()).toBe(allRun);
  });
});

describe("Without this program", () => {
  test("stock tools bring the backup back", async () => {
    await writeOn();
    const shown = JSON.parse(await sh("etcd-lifeboat show latest --json")) as { data: { object: string } };
    await sh(`cp /var/backups/etcd/${shown.data.object} backup.db.zst.age`);
    const [script = ""] = commandsOf("Without this program");
    const before = await etcdctl("get /kept --write-out json");
    await sh(`${script.replaceAll("10.0.0.11", "127.0.0.1")} 2>&1`);
    await ready();
    expect(await kept()).toBe("then");
    const revision = (text: string): number => (JSON.parse(text) as { header: { revision: number } }).header.revision;
    expect(revision(await etcdctl("get /kept --write-out json"))).toBeGreaterThan(revision(before) + 900_000_000);
    expect(await running()).toBe(allRun);
    await sh("etcd-lifeboat adopt --confirm-cluster prod && etcd-lifeboat backup");
  });
});

/** They need several members, two clusters, or a store that does not answer: restore-survivor, restore-kinds, restore-member and restore-as-new.test.ts of test/cluster read or run them. */
const elsewhere = [
  "Quorum is lost, and a member survives",
  "The store is gone, too",
  "One member lost its data",
  "Another cluster from a backup, for staging",
];

test("no command of the page was left out", () => {
  for (const heading of elsewhere) commandsOf(heading);
  const all = blocks(page).flatMap(({ language, code }) => (language === "sh" ? [code.trim()] : []));
  expect(all.filter((command) => !ran.has(command))).toEqual([]);
});
