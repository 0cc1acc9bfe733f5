import { execFile } from "node:child_process";
import { readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { discardDirectory, makeDirectory } from "../cluster/directories.ts";
import { runProgram } from "../cluster/processes.ts";
import { etcdProgram, toolProgram } from "../cluster/servers.ts";
import { createAuthority } from "../cluster/tls.ts";
import { blocks, readPage, root, spans } from "../docs/pages.ts";
import { bootHost, type Host } from "./host.ts";

/**
 * The unit on a booted systemd, installed with the very commands of docs/install.md: every part of its hardening is in force but the limits
 * by control group. etcd runs there with the files that kubeadm writes, whose keys only root may read. The tests go on from one another.
 */

const guide = readPage("docs/install.md");
const pki = "/etc/kubernetes/pki/etcd";
const config = "/etc/etcd-lifeboat/config.yaml";
const store = "/var/backups/etcd";
const credentials = "/run/credentials/etcd-lifeboat.service";
const dropIns = "/etc/systemd/system/etcd-lifeboat.service.d";

let host: Host;
let directory: string;
let settings: Settings;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, [join(root, "scripts/build.ts")]);
  directory = await makeDirectory("hostfiles");
  const gateway = await realpath(toolProgram("versitygw"));
  host = await bootHost({
    "/usr/local/bin/node": await realpath(process.execPath),
    "/usr/local/bin/etcd": await realpath(etcdProgram("3.6", "etcd")),
    "/usr/local/bin/etcdctl": await realpath(etcdProgram("3.6", "etcdctl")),
    "/usr/local/bin/versitygw": gateway,
    "/srv/checkout/dist": join(root, "dist"),
    "/srv/checkout/systemd": join(root, "systemd"),
  });
  await startEtcd();
  settings = { cluster: {}, repository: {}, spool: {} };
  settings.cluster = {
    name: "prod",
    endpoints: ["https://127.0.0.1:2379"],
    tls: { ca: `${pki}/ca.crt`, cert: `${pki}/healthcheck-client.crt`, key: `${pki}/healthcheck-client.key` },
  };
  settings.repository = { store: { directory: store }, encryption: { recipients: [await recipient()] } };
  await host.write("/srv/checkout/config.yaml", text());
  await host.write(
    "/srv/checkout/s3-credentials",
    "[default]\naws_access_key_id = hostkey\naws_secret_access_key = hostsecret\n",
  );
});

afterAll(async () => {
  await host?.[Symbol.asyncDispose]();
  if (directory !== undefined) await discardDirectory(directory);
});

interface Settings {
  cluster: object;
  repository: Record<string, unknown>;
  spool: object;
}

/** The configuration's text; a backup is due every two seconds. */
function text(change: Partial<Settings> = {}): string {
  return JSON.stringify({ ...settings, ...change, schedules: [{ name: "quick", cron: "*/2 * * * * *" }] }, null, 2);
}

async function recipient(): Promise<string> {
  const path = join(directory, "age.key");
  await runProgram(toolProgram("age-keygen"), ["-o", path]);
  return /public key: (age1\w+)/.exec(await readFile(path, "utf8"))?.[1] ?? "";
}

/** One member with TLS and enough in it that a backup at 1 MiB/s takes seconds. */
async function startEtcd(): Promise<void> {
  const authority = await createAuthority(join(directory, "pki"));
  const server = await authority.issue({ commonName: "server" });
  const client = await authority.issue({
    commonName: "kube-etcd-healthcheck-client",
    usage: "client",
    fileName: "healthcheck-client",
  });
  for (const path of [authority.ca, server.cert, client.cert]) {
    await host.write(`${pki}/${path.slice(dirname(path).length + 1)}`, await readFile(path, "utf8"));
  }
  await host.write(`${pki}/server.key`, await readFile(server.key, "utf8"), "600");
  await host.write(`${pki}/healthcheck-client.key`, await readFile(client.key, "utf8"), "600");
  const urls =
    "--listen-peer-urls http://127.0.0.1:2380 --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379";
  const tls = `--client-cert-auth --trusted-ca-file ${pki}/ca.crt --cert-file ${pki}/server.crt --key-file ${pki}/server.key`;
  await startUnit("etcd", "notify", `/usr/local/bin/etcd --data-dir /var/lib/etcd ${urls} ${tls}`);
  const as = `--cacert ${pki}/ca.crt --cert ${pki}/healthcheck-client.crt --key ${pki}/healthcheck-client.key`;
  await host.sh(
    `for i in 1 2 3 4 5 6 7 8; do head -c 900000 /dev/urandom | base64 -w0 | etcdctl ${as} put key$i; done`,
  );
}

async function startUnit(name: string, type: "notify" | "exec", command: string): Promise<void> {
  await host.write(`/etc/systemd/system/${name}.service`, `[Service]\nType=${type}\nExecStart=${command}\n`);
  await host.sh(
    `systemctl daemon-reload; systemctl start ${name} || { journalctl -q -n 10 -o cat -u ${name}; exit 1; }`,
  );
}

/** The commands of the one block of docs/install.md that has the words in it. */
function commandsWith(words: string): string {
  const found = blocks(guide).filter(({ language, code }) => language === "sh" && code.includes(words));
  expect(found, `blocks of docs/install.md with ${words}`).toHaveLength(1);
  // It would follow for ever.
  return `cd /srv/checkout\n${found[0]?.code.replace(/^journalctl .* -f$/m, "") ?? ""}`;
}

/** What stands in backticks in docs/install.md and begins so. */
function spanWith(beginning: string): string {
  const found = spans(guide).find((span) => span.startsWith(beginning));
  if (found === undefined) throw new Error(`docs/install.md does not show ${beginning}`);
  return found;
}

async function show(): Promise<Record<string, string>> {
  const lines = await host.sh(
    "systemctl show etcd-lifeboat -p ActiveState,SubState,Result,ExecMainStatus,NRestarts,MainPID",
  );
  return Object.fromEntries(lines.split("\n").map((line) => line.split("=") as [string, string]));
}

interface Event {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** Where the journal ends now. */
async function here(): Promise<string> {
  return await host.sh("journalctl -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p'");
}

/** Gives the place in the journal between the daemon that ends and the one that starts, so that nothing of the first is taken for the second's. */
async function restart(): Promise<string> {
  await host.sh("systemctl daemon-reload && systemctl stop etcd-lifeboat");
  const between = await here();
  await host.sh("systemctl start etcd-lifeboat");
  return between;
}

/** The daemon's own lines since a place in the journal. */
async function lines(since: string): Promise<readonly string[]> {
  // Asked for one program's entries, journalctl passes over the first one after the cursor.
  const journal = await host.sh(`journalctl -q -o json --after-cursor='${since}'`);
  const entries = journal.split("\n").filter((line) => line !== "");
  return entries
    .map((entry) => JSON.parse(entry) as { readonly SYSLOG_IDENTIFIER?: string; readonly MESSAGE: string })
    .filter(({ SYSLOG_IDENTIFIER }) => SYSLOG_IDENTIFIER === "etcd-lifeboat")
    .map(({ MESSAGE }) => MESSAGE);
}

/** Anything but JSON is a failure of its own here. */
async function events(since: string): Promise<readonly Event[]> {
  return (await lines(since)).map((line) => JSON.parse(line) as Event);
}

/** Waits until the daemon has told, after a place in the journal, of one event and then of the next; gives the last. */
async function told(since: string, ...names: readonly string[]): Promise<Event> {
  const deadlineMs = Date.now() + 100_000;
  for (;;) {
    const found = inOrder(await events(since), names);
    if (found !== undefined) return found;
    if (Date.now() > deadlineMs) {
      const journal = await host.sh("journalctl -q -u etcd-lifeboat -n 40 | cut -c1-300");
      throw new Error(`not in the journal: ${names.join(", then ")}\n${journal}`);
    }
    await sleep(300);
  }
}

function inOrder(all: readonly Event[], names: readonly string[]): Event | undefined {
  let at = -1;
  for (const name of names) {
    at = all.findIndex(({ event }, index) => index > at && event === name);
    if (at === -1) return undefined;
  }
  return all[at];
}

async function configure(change: (settings: Settings) => void): Promise<void> {
  change(settings);
  await host.sh(`cat >${config}`, text());
}

describe("the unit on a booted systemd", () => {
  test("the commands of docs/install.md install it, and it starts", async () => {
    await host.sh(commandsWith("etcd-lifeboat --version"));
    await host.sh(commandsWith("useradd "));
    const since = await here();
    // systemctl waits until it is ready, and so tells that it is not.
    expect((await host.run(commandsWith("systemctl enable --now"))).status).not.toBe(0);
    await expect.poll(async () => (await show())["ActiveState"], { timeout: 90_000 }).toBe("failed");
    // The key is root's alone: what to do is what the guide says, too.
    const acl = spanWith("setfacl -m ");
    expect((await lines(since)).join("\n")).toContain(acl);
    await host.sh(acl);
    const mended = await here();
    await host.sh("systemctl start etcd-lifeboat");
    await told(mended, "daemon.ready", "cluster.observed");
    expect(await show()).toMatchObject({ ActiveState: "active", SubState: "running", NRestarts: "0" });
  });

  test("a directory that it may not write is told with the remedy", async () => {
    await host.sh(`install -d -m 0700 -o etcd-lifeboat ${store}`);
    const failed = await told(await here(), "backup.failed");
    expect(failed).toMatchObject({ code: "store-denied" });
    expect(String(failed["hint"])).toContain("ReadWritePaths=");
    await host.sh(`rmdir ${store}`);
  });

  test("with the drop-in of docs/install.md it commits backups, with no right and no system call that it does not need", async () => {
    const since = await here();
    await host.sh(commandsWith("ReadWritePaths="));
    const committed = await told(since, "backup.committed");
    expect(committed).toMatchObject({ keys: 8, extrasMissing: 0 });
    const { MainPID } = await show();
    const status = await host.sh(`cat /proc/${MainPID}/status`);
    expect(status).toMatch(/^Seccomp:\s+2$/m);
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
    expect(status).toMatch(/^CapBnd:\s+0+$/m);
    expect(
      await host.sh(`stat -c %U /proc/${MainPID} ${store}/repository.json /var/cache/etcd-lifeboat | sort -u`),
    ).toBe("etcd-lifeboat");
  });

  test("a single command uses the same spool while the daemon works, which cannot see its process and leaves its file alone", async () => {
    const slow = "/etc/etcd-lifeboat/slow.yaml";
    await host.sh(
      `install -m 0640 -g etcd-lifeboat /dev/null ${slow}; cat >${slow}`,
      text({ spool: { maxRate: "1MiB" } }),
    );
    const since = await here();
    const one = await host.sh(`runuser -u etcd-lifeboat -- etcd-lifeboat backup --config ${slow} --json`);
    expect(JSON.parse(one)).toMatchObject({ keys: 8 });
    // Each looks through the spool first.
    expect((await events(since)).filter(({ event }) => event === "backup.started").length).toBeGreaterThan(1);
  });

  test("killed, it is back by itself and goes on", async () => {
    const { MainPID: before } = await show();
    const since = await here();
    await host.sh("systemctl kill --kill-whom=main --signal=KILL etcd-lifeboat");
    await told(since, "daemon.ready", "backup.committed");
    const after = await show();
    expect(after).toMatchObject({ ActiveState: "active", NRestarts: "1" });
    expect(after["MainPID"]).not.toBe(before);
  });

  test("systemd knows that it is ready, what it does and when the next backup comes", async () => {
    // It was started by a systemctl that waited for READY=1.
    expect(await host.sh("systemctl show etcd-lifeboat -p Type,NotifyAccess,WatchdogUSec")).toBe(
      "Type=notify\nNotifyAccess=all\nWatchdogUSec=2min",
    );
    await expect
      .poll(() => host.sh("systemctl show etcd-lifeboat -p StatusText --value"), { timeout: 40_000 })
      .toMatch(/^(next backup \S+Z \(quick\)|backing up quick: .*); last backup \S+Z \(quick, .*B\)$/);
    expect(await host.sh("systemctl status etcd-lifeboat | cat")).toMatch(/Status: "/);
  });

  test("a reload brings the new configuration, also while a backup runs, which goes on to its end", async () => {
    const { MainPID: pid } = await show();
    await configure((all) => (all.spool = { maxRate: "1MiB" }));
    const since = await here();
    await host.sh("systemctl reload etcd-lifeboat");
    await told(since, "config.reloading", "config.accepted", "config.applied", "source.chosen");
    // Now a backup takes seconds, and one runs.
    const during = await here();
    await host.sh(`cat >${config}`, text().replace('"quick"', '"other"'));
    await host.sh("systemctl reload etcd-lifeboat");
    await told(during, "config.accepted", "backup.committed", "config.applied", "backup.started");
    const seen = await events(during);
    const at = (name: string): number => seen.findIndex(({ event }) => event === name);
    expect(seen.slice(at("config.accepted"), at("config.applied")).map(({ event }) => event)).not.toContain(
      "backup.failed",
    );
    expect(seen[at("backup.committed")]).toMatchObject({ schedule: "quick" });
    expect(seen.find(({ event }, index) => event === "backup.started" && index > at("config.applied"))).toMatchObject({
      schedule: "other",
    });
    expect(await show()).toMatchObject({ ActiveState: "active", NRestarts: "1", MainPID: pid });
  });

  test("a reload of what is wrong keeps the old configuration, and log, metric and systemd say so until it is mended", async () => {
    const refused = await here();
    await host.sh(`sed -i s/repository/repositry/ ${config}; systemctl reload etcd-lifeboat`);
    const event = await told(refused, "config.refused");
    expect(String(event["message"])).toContain("repositry: unknown key; did you mean repository?");
    const statusText = "systemctl show etcd-lifeboat -p StatusText --value";
    await expect.poll(() => host.sh(statusText), { timeout: 40_000 }).toContain("RELOAD REFUSED");
    const metric = `exec 3<>/dev/tcp/127.0.0.1/9979; printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; grep lifeboat_config_last_reload_successful{ <&3`;
    expect(await host.sh(metric)).toBe('lifeboat_config_last_reload_successful{cluster="prod"} 0');
    await told(refused, "config.refused", "backup.committed");
    const renamed = await here();
    await host.sh(`cat >${config}`, text({ cluster: { ...settings.cluster, name: "test" } }));
    await host.sh("systemctl reload etcd-lifeboat");
    expect(await told(renamed, "config.refused")).toMatchObject({
      message: "cluster.name cannot be changed while it runs",
    });
    const mended = await here();
    await configure((all) => (all.spool = {}));
    await host.sh("systemctl reload etcd-lifeboat");
    await told(mended, "config.applied", "backup.committed");
    expect(await host.sh(metric)).toBe('lifeboat_config_last_reload_successful{cluster="prod"} 1');
    await expect.poll(() => host.sh(statusText), { timeout: 40_000 }).not.toContain("REFUSED");
  });

  test("a process that stands still is ended by the watchdog and started again; one whose backup takes longer is not", async () => {
    await host.write(`${dropIns}/watchdog.conf`, "[Service]\nWatchdogSec=6s\nRestartSec=1s\n");
    await configure((all) => (all.spool = { maxRate: "1MiB" }));
    const since = await restart();
    // A backup of 8 MB at 1 MiB/s is longer than the watchdog's time.
    await told(since, "backup.committed");
    const { MainPID: pid, NRestarts: restarts = "" } = await show();
    await configure((all) => (all.spool = {}));
    const stopped = await here();
    await host.sh(`kill -STOP ${pid}`);
    await told(stopped, "daemon.ready", "backup.committed");
    const after = await show();
    expect(after).toMatchObject({ ActiveState: "active", NRestarts: `${Number(restarts) + 1}` });
    expect(after["MainPID"]).not.toBe(pid);
    expect(await host.sh("journalctl -q -o cat -u etcd-lifeboat | grep -c 'Watchdog timeout'")).toBe("1");
    await host.sh(`rm ${dropIns}/watchdog.conf`);
    await restart();
  });

  test("a stop in the middle of a backup ends it at once, with 0 and an empty spool", async () => {
    await configure((all) => (all.spool = { maxRate: "1MiB" }));
    const since = await restart();
    await told(since, "source.chosen");
    await host.sh("systemctl stop etcd-lifeboat");
    expect(await show()).toMatchObject({ ActiveState: "inactive", Result: "success", ExecMainStatus: "0" });
    const names = (await events(since)).map(({ event }) => event);
    expect(names).toContain("daemon.stopping");
    expect(names).not.toContain("backup.committed");
    expect(await host.sh("ls -A /var/cache/etcd-lifeboat")).toBe("");
    await configure((all) => (all.spool = {}));
  });

  test("a configuration that is wrong ends it with 78, and it is not tried again", async () => {
    const since = await here();
    await host.sh(`sed -i s/repository/repositry/ ${config}`);
    expect((await host.run("systemctl start etcd-lifeboat")).stderr).toContain("etcd-lifeboat.service failed");
    await expect.poll(async () => (await show())["ActiveState"], { timeout: 90_000 }).toBe("failed");
    // Waiting for the next try would be called auto-restart.
    expect(await show()).toMatchObject({ SubState: "failed", ExecMainStatus: "78", NRestarts: "0" });
    expect((await lines(since)).join("\n")).toContain("repositry: unknown key; did you mean repository?");
    await configure(() => undefined);
  });

  test("with the drop-in of the unit's comments it reads files that are root's alone, and the AWS SDK finds the S3 keys", async () => {
    const unit = await readFile(join(root, "systemd/etcd-lifeboat.service"), "utf8");
    const shown = [...unit.matchAll(/^# +(\[Service\]|LoadCredential=.*|Environment=AWS.*)$/gm)].map(
      ([, line]) => line,
    );
    expect(shown).toHaveLength(5);
    await host.sh(`setfacl -b ${pki}/healthcheck-client.key; chown root:root /etc/etcd-lifeboat/s3-credentials`);
    const secrets = `${pki}/healthcheck-client.key /etc/etcd-lifeboat/s3-credentials`;
    expect(await host.sh(`stat -c '%a %U' ${secrets} | uniq`)).toBe("600 root");
    await host.sh("mkdir -p /srv/s3/etcd-backups /srv/sidecar");
    const keys = "--access hostkey --secret hostsecret --port 127.0.0.1:7070";
    await startUnit("s3", "exec", `/usr/local/bin/versitygw ${keys} posix --sidecar /srv/sidecar /srv/s3`);
    const [, cert = ""] = /^# +cluster\.tls\.cert: (\S+)$/m.exec(unit) ?? [];
    const [, key = ""] = /^# +cluster\.tls\.key: (\S+)$/m.exec(unit) ?? [];
    const endpoint = "http://127.0.0.1:7070";
    await configure((all) => {
      all.cluster = { ...all.cluster, tls: { ca: `${pki}/ca.crt`, cert, key } };
      all.repository["store"] = { s3: { bucket: "etcd-backups", region: "us-east-1", endpoint, pathStyle: true } };
    });
    await host.write(`${dropIns}/credentials.conf`, shown.join("\n"));
    const since = await here();
    await host.sh("systemctl daemon-reload && systemctl start etcd-lifeboat");
    await told(since, "backup.committed");
    const { MainPID } = await show();
    const environment = (await host.sh(`tr '\\0' '\\n' </proc/${MainPID}/environ`)).split("\n");
    expect(environment).toContain(`AWS_SHARED_CREDENTIALS_FILE=${credentials}/s3-credentials`);
    expect(await host.sh("find /srv/s3/etcd-backups -name '*.db.zst.age' | wc -l")).not.toBe("0");
    // And a single command, as docs/install.md tells.
    const env = spanWith("runuser -u etcd-lifeboat -- env ").replace(
      " env ",
      ` env AWS_SHARED_CREDENTIALS_FILE=${credentials}/s3-credentials `,
    );
    expect(await host.sh(env)).toContain("slot.quick");
  });

  test("extras of root's are missing until the drop-in of docs/install.md gives the right to read them", async () => {
    await configure((all) => (all.repository["extras"] = ["/etc/kubernetes/pki"]));
    const before = await restart();
    // Both keys.
    expect(await told(before, "backup.committed")).toMatchObject({ extrasMissing: 2 });
    const rights = [spanWith("CapabilityBoundingSet="), spanWith("AmbientCapabilities=")];
    await host.write(`${dropIns}/extras.conf`, ["[Service]", ...rights].join("\n"));
    const since = await restart();
    expect(await told(since, "backup.committed")).toMatchObject({ extrasMissing: 0 });
  });
});
