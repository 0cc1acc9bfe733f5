import { execFile } from "node:child_process";
import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { etcdProgram } from "../cluster/servers.ts";
import { root } from "../docs/pages.ts";
import { bootHost, type Host } from "./host.ts";

/** One member of three lost its data, on a booted systemd: one unit has its settings in a file, one in its own flags. The tests go on from one another. */

const members = [1, 2, 3] as const;
type Number = (typeof members)[number];
const client = (number: Number): string => `http://127.0.0.1:${number}2379`;
const peer = (number: Number): string => `http://127.0.0.1:${number}2380`;
const all = members.map((number) => `etcd${number}=${peer(number)}`).join(",");
const environment = "export HOME=/root NODE_COMPILE_CACHE=/tmp/node; cd /root;";
const confirmed = "--yes --confirm-cluster prod";

let host: Host;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, [join(root, "scripts/build.ts")]);
  host = await bootHost({
    "/usr/local/bin/node": await realpath(process.execPath),
    "/usr/local/bin/etcd": await realpath(etcdProgram("3.6", "etcd")),
    "/usr/local/bin/etcdctl": await realpath(etcdProgram("3.6", "etcdctl")),
    "/srv/dist": join(root, "dist"),
  });
  await host.sh("install -m 755 /srv/dist/etcd-lifeboat.cjs /usr/local/bin/etcd-lifeboat; useradd --system etcd");
  await host.sh("install -d -m 700 /var/backups/etcd");
  for (const number of members) await installUnit(number);
  const hosts = members.map((number) => [
    `h${number}`,
    {
      reach: "local",
      stateDirectory: `/var/lib/etcd-lifeboat/h${number}`,
      etcd: {
        member: `etcd${number}`,
        service: { systemd: `etcd${number}.service` },
        dataDirectory: `/var/lib/etcd${number}`,
        ...(number === 2 && { environmentFile: "/etc/etcd/etcd2.env" }),
      },
    },
  ]);
  const config = {
    cluster: { name: "prod", endpoints: members.map(client) },
    repository: { store: { directory: "/var/backups/etcd" } },
    hosts: Object.fromEntries(hosts) as object,
  };
  await host.write("/etc/etcd-lifeboat/config.yaml", JSON.stringify(config, null, 2), "600");
  await host.sh(`systemctl start --no-block etcd1 etcd2 etcd3; ${until("etcdctl put kept before")}`);
});

afterAll(async () => {
  await host?.[Symbol.asyncDispose]();
});

/** As the package has it for the second, in a file; as in hand-written units for the others, in flags. */
async function installUnit(number: Number): Promise<void> {
  const settings = {
    name: `etcd${number}`,
    "data-dir": `/var/lib/etcd${number}`,
    "listen-client-urls": client(number),
    "advertise-client-urls": client(number),
    "listen-peer-urls": peer(number),
    "initial-advertise-peer-urls": peer(number),
    "initial-cluster": all,
    "initial-cluster-state": "new",
    "initial-cluster-token": "etcd-cluster-0",
  };
  const variables = Object.entries(settings).map(
    ([flag, value]) => `ETCD_${flag.toUpperCase().replaceAll("-", "_")}="${value}"`,
  );
  const flags = Object.entries(settings).map(([flag, value]) => ` \\\n  --${flag}=${value}`);
  const way =
    number === 2
      ? "EnvironmentFile=-/etc/etcd/etcd2.env\nExecStart=/usr/local/bin/etcd"
      : `ExecStart=/usr/local/bin/etcd${flags.join("")}`;
  await host.write(`/etc/etcd/etcd${number}.env`, `${variables.join("\n")}\n`, "640");
  await host.write(
    `/etc/systemd/system/etcd${number}.service`,
    `[Service]\nType=notify\nUser=etcd\n${way}\nRestart=on-failure\nRestartSec=1\n[Install]\nWantedBy=multi-user.target\n`,
  );
  await host.sh(
    `install -d -o etcd -m 700 /var/lib/etcd${number}; systemctl daemon-reload; systemctl -q enable etcd${number}`,
  );
}

/** A script that tries until it succeeds, and shows at last why it does not. */
function until(command: string, asked: readonly Number[] = members): string {
  return `export ETCDCTL_ENDPOINTS=${asked.map(client).join(",")}; for i in $(seq 90); do if ${command} >/dev/null 2>&1; then exit 0; fi; sleep 1; done; ${command}`;
}

async function etcdctl(words: string, number: Number): Promise<string> {
  return await host.sh(`etcdctl --endpoints ${client(number)} ${words}`);
}

/** Its log and half of its database are gone, and systemd tries again and again to start it. */
async function wound(number: Number, value: string): Promise<void> {
  const data = `/var/lib/etcd${number}/member`;
  await host.sh(`systemctl stop etcd${number}; rm -r ${data}/wal; echo broken >${data}/snap/db`);
  await host.sh(`systemctl start --no-block etcd${number}; ${until(`etcdctl put kept ${value}`)}`);
}

async function lifeboat(words: string): Promise<string> {
  return await host.sh(`${environment} etcd-lifeboat ${words} 2>&1`);
}

async function dieAt(place: string, member: string): Promise<void> {
  const { status, stderr } = await host.run(
    `${environment} LIFEBOAT_FAILPOINTS=on LIFEBOAT_FAILPOINT='step ${place}' etcd-lifeboat restore-member ${member} ${confirmed} || exit $?`,
  );
  expect(status, `${place} was not reached:\n${stderr}`).toBe(137);
}

/** Everything that says how the unit is run. */
async function settingsOf(number: Number): Promise<string> {
  const unit = `etcd${number}`;
  return await host.sh(
    `cat /etc/etcd/${unit}.env; stat -c '%U %a' /etc/etcd/${unit}.env; systemctl cat ${unit}; ls -d /etc/systemd/system/${unit}* /var/lib/etcd-lifeboat/h${number}/joining/* 2>/dev/null || true`,
  );
}

async function expectJoined(number: Number, value: string): Promise<void> {
  expect(await etcdctl("get kept --print-value-only", number)).toBe(value);
  const list = (await etcdctl("member list", number)).split("\n");
  expect(list).toHaveLength(3);
  for (const line of list) expect(line).toMatch(/started, .*, false$/);
  expect(await host.sh(`stat -c %U /var/lib/etcd${number}/member/snap/db`)).toBe("etcd");
  // It is an ordinary member from now on.
  await host.sh(`systemctl restart etcd${number}; ${until("etcdctl get kept", [number])}`);
}

test("with its settings in a file: taken back it is as it was found, and resumed it joins by the file, which is then what it was", async () => {
  const before = await settingsOf(2);
  await wound(2, "meanwhile");
  expect(await lifeboat("restore-member etcd2 --plan")).toContain(
    "ETCD_INITIAL_CLUSTER_STATE=existing stand in /etc/etcd/etcd2.env until it has joined",
  );
  await dieAt("aside.h2 after perform", "etcd2");
  expect((await host.run("systemctl start etcd2")).status, "it is held").not.toBe(0);
  await lifeboat(`restore-member --rollback ${confirmed}`);
  expect(await settingsOf(2)).toBe(before);

  await dieAt("join-settings after perform", "etcd2");
  expect(await host.sh("cat /etc/etcd/etcd2.env")).toContain('ETCD_INITIAL_CLUSTER_STATE="existing"');
  // Another way than the one that was planned would never find what the first has left.
  const refused = await host.run(
    `${environment} sed 's#/etc/etcd/etcd2.env#/etc/default/etcd2#' /etc/etcd-lifeboat/config.yaml >other.yaml; chmod 600 other.yaml; etcd-lifeboat restore-member --resume ${confirmed} --config other.yaml`,
  );
  expect(refused.stderr).toContain(
    "etcd on h2 was run as etcd2.service with /etc/etcd/etcd2.env, and the configuration now says etcd2.service with /etc/default/etcd2",
  );
  await lifeboat(`restore-member --resume ${confirmed}`);
  expect(await settingsOf(2)).toBe(before);
  await expectJoined(2, "meanwhile");
});

test("with its settings in the unit's flags it joins by a drop-in, also when the command dies while that is in force, and the unit is then what it was", async () => {
  const before = await settingsOf(3);
  await wound(3, "later");
  expect(await lifeboat("restore-member etcd3 --plan")).toContain(
    "--initial-cluster-state=existing stand in a drop-in of etcd3.service until it has joined",
  );
  await dieAt("start-etcd.h3 after perform", "etcd3");
  expect(await host.sh("tr '\\0' ' ' </proc/$(systemctl show -p MainPID --value etcd3)/cmdline")).toContain(
    "--initial-cluster-state=existing",
  );
  await lifeboat(`restore-member --resume ${confirmed}`);
  expect(await settingsOf(3)).toBe(before);
  expect(await host.sh("systemctl show -p NeedDaemonReload --value etcd3")).toBe("no");
  await expectJoined(3, "later");
});
