import {
  chmod,
  copyFile,
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { basename, dirname, join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { s3Error, startFaultProxy, type FaultProxy } from "../store/fault-proxy.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { startS3, type TestS3 } from "./s3.ts";
import { manifestsOf, openSite, type ConfigInput, type RunOptions, type Site } from "./site.ts";
import { createAuthority, type Authority } from "./tls.ts";

/**
 * What is wrong in the world or in the configuration: the exact exit status, a message that names the thing and the remedy, nothing
 * half-committed, and no secret in what is printed (every run looks for all of them).
 */

interface Case extends RunOptions {
  readonly about: string;
  /** `backup` unless told otherwise. */
  readonly args?: readonly string[];
  readonly status: number;
  /** What standard error must say: first the thing, then the remedy. */
  readonly says: readonly (string | RegExp)[];
}

/** Runs a case and expects what it says, and a store without a new or changed backup. */
async function expectRefused(site: Site, { args = ["backup"], status, says, ...options }: Case): Promise<void> {
  const before = manifestsOf(await site.objects());
  const ended = await site.run(args, options);
  for (const text of says) expect(ended.stderr).toMatch(text);
  expect(ended).toMatchObject({ status, signal: null, stdout: "" });
  expect(ended.stderr).not.toMatch(/\n\s+at /); // no stack: nothing of this is a bug
  expect(manifestsOf(await site.objects())).toEqual(before);
  expect((await readdir(site.spool)).filter((name) => name !== "catalog")).toEqual([]); // what `list` remembers
}

/** Rights mean nothing to root; whoever else runs the tests is good enough as he is. */
const isRoot = process.geteuid?.() === 0;
const nobody = isRoot ? 65534 : process.geteuid?.();
const asNobody = isRoot ? ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] : [];

const password = "canary-of-the-password";
const slow = { timeout: 180_000 };

let secure: TestCluster;
let guarded: TestCluster;
let s3: TestS3;
let strangers: Authority;
/** Of the cluster with certificates; holds one backup. */
let site: Site;
/** Of the cluster with users. */
let users: Site;

beforeAll(async () => {
  [secure, guarded, s3] = await Promise.all([
    startCluster({ tls: true }),
    startCluster({ auth: { rootPassword: password } }),
    startS3({ secretKey: "canary-of-the-bucket" }),
  ]);
  await s3.createBucket("backups");
  await secure.fill({ keys: 1500, valueBytes: 1000 });
  await guarded.etcdctl(["user", "add", `reader:${password}`]);
  const { tls } = secure;
  if (tls === undefined) throw new Error("the cluster was to have TLS");
  site = await openSite({
    cluster: { name: "prod", endpoints: [...secure.endpoints], tls: { ca: tls.ca, cert: tls.cert, key: tls.key } },
    signed: true,
    schedules: [{ name: "hourly", cron: "0 * * * *" }],
  });
  strangers = await createAuthority(join(site.directory, "strangers"), "strangers");
  users = await openSite({ cluster: { name: "guarded", endpoints: [...guarded.endpoints] } });
  for (const secret of [password, s3.secretKey]) {
    site.secrets.add(secret);
    users.secrets.add(secret);
  }
  await writeFile(join(users.directory, "password"), `${password}\n`, { mode: 0o600 });
  await site.json(["backup", "--label", "first"]);
  await site.json(["backup", "--label", "second"]);
  users.config.cluster.auth = { username: "root", password: { file: join(users.directory, "password") } };
  await users.json(["backup"]);
});

afterAll(async () => {
  for (const thing of [site, users, secure, guarded, s3]) await thing[Symbol.asyncDispose]();
});

describe("etcd's certificates", slow, () => {
  test("a wrong CA is named with the key of the configuration that must change", async () => {
    await expectRefused(site, {
      about: "wrong CA",
      change: ({ cluster }) => (cluster.tls = { ...cluster.tls, ca: strangers.ca }),
      status: 78,
      says: [
        /error: the server certificate of .*127\.0\.0\.1.* is not signed by a CA that is trusted here/,
        `hint: cluster.tls.ca (${strangers.ca})`,
      ],
    });
  });

  test("an expired server certificate is the member's to renew", async () => {
    const expired = await secure.tls?.authority.issue({ commonName: "etcd", fileName: "old-server", expired: true });
    if (expired === undefined) throw new Error("no certificate");
    await using server = await listening(
      createTlsServer({ cert: await readFile(expired.cert), key: await readFile(expired.key) }),
    );
    await expectRefused(site, {
      about: "expired server certificate",
      change: ({ cluster }) => (cluster.endpoints = [`https://127.0.0.1:${server.port}`]),
      status: 78,
      says: [
        `the server certificate of https://127.0.0.1:${server.port} has expired`,
        /hint: renew the member's server certificate/,
      ],
    });
  });

  test("an expired client certificate is named with its day", async () => {
    const expired = await secure.tls?.authority.issue({
      commonName: "client",
      fileName: "old-client",
      usage: "client",
      expired: true,
    });
    if (expired === undefined) throw new Error("no certificate");
    await expectRefused(site, {
      about: "expired client certificate",
      change: ({ cluster }) => (cluster.tls = { ...cluster.tls, ...expired }),
      status: 78,
      says: [
        new RegExp(`the client certificate ${expired.cert} expired on \\w`),
        /hint: renew cluster.tls.cert and cluster.tls.key/,
      ],
    });
  });

  test("a client certificate of strangers, and none at all, are told apart", async () => {
    const foreign = await strangers.issue({ commonName: "client", usage: "client" });
    await expectRefused(site, {
      about: "foreign client certificate",
      change: ({ cluster }) => (cluster.tls = { ...cluster.tls, ...foreign }),
      status: 78,
      says: [
        `refuses the client certificate ${foreign.cert}`,
        /hint: cluster\.tls\.cert .* must be valid and signed by the CA of etcd's --trusted-ca-file/,
      ],
    });
    await expectRefused(site, {
      about: "no client certificate",
      change: ({ cluster }) => (cluster.tls = { ca: secure.tls?.ca ?? "" }),
      status: 78,
      says: [/asks for a client certificate, and none is configured/, "hint: set cluster.tls.cert and cluster.tls.key"],
    });
  });
});

describe("etcd's users", slow, () => {
  test("a wrong password is refused once, and never printed", async () => {
    const wrong = join(users.directory, "wrong-password");
    await writeFile(wrong, "canary-of-a-wrong-one", { mode: 0o600 });
    users.secrets.add("canary-of-a-wrong-one");
    await expectRefused(users, {
      about: "wrong password",
      change: ({ cluster }) => (cluster.auth = { username: "root", password: { file: wrong } }),
      status: 78,
      says: [/refuses the user root or its password/, "hint: check cluster.auth.username and cluster.auth.password"],
    });
  });

  test("a user without the role root learns the command that grants it", async () => {
    await expectRefused(users, {
      about: "not root",
      change: ({ cluster }) =>
        (cluster.auth = { username: "reader", password: { file: join(users.directory, "password") } }),
      status: 78,
      says: [/the user reader lacks the root role/, "hint: run: etcdctl user grant-role reader root"],
    });
  });

  test("no user where authentication is on", async () => {
    await expectRefused(users, {
      about: "no user",
      change: ({ cluster }) => delete cluster.auth,
      status: 78,
      says: [/(no user is configured|no user with the root role is configured)/, /hint: .*(cluster\.auth|grant-role)/],
    });
  });
});

describe("endpoints", slow, () => {
  test("a web server is no etcd", async () => {
    await using server = await listening(createServer((_, answer) => answer.end("hello")));
    await expectRefused(users, {
      about: "no etcd",
      change: ({ cluster }) => (cluster.endpoints = [`http://127.0.0.1:${server.port}`]),
      status: 78,
      says: [
        `http://127.0.0.1:${server.port} is no client port of an etcd`,
        "hint: use a URL of etcd's --advertise-client-urls",
      ],
    });
  });

  test("a peer port is no client port", async () => {
    await expectRefused(users, {
      about: "peer port",
      change: ({ cluster }) => (cluster.endpoints = [guarded.members[0]?.peerUrl ?? ""]),
      status: 78,
      says: [/is no client port of an etcd: .*peer port/, "hint: use a URL of etcd's --advertise-client-urls"],
    });
  });

  test("an address where nobody listens may work later", async () => {
    await expectRefused(users, {
      about: "nobody",
      change: ({ cluster }) => (cluster.endpoints = ["http://127.0.0.1:1"]),
      status: 75,
      says: [/http:\/\/127\.0\.0\.1:1 cannot be reached/],
    });
  });

  test.each([
    { given: "127.0.0.1:2379", says: /cluster\.endpoints\[0\].*(http:\/\/|https:\/\/)/ },
    { given: "etcd.example.org", says: /cluster\.endpoints\[0\].*https?:\/\// },
  ])("a URL without scheme ($given) is a problem of the configuration, with its line", async ({ given, says }) => {
    await expectRefused(users, {
      about: given,
      change: ({ cluster }) => (cluster.endpoints = [given]),
      status: 78,
      says: [says, /config-\d+\.yaml:\d+:\d+/, "hint: mend it and run: etcd-lifeboat config check"],
    });
  });
});

describe("the configuration", slow, () => {
  const mistyped = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q";
  test.each<Case>([
    {
      about: "a mistyped age recipient",
      change: ({ repository }) => (repository.encryption = { recipients: [mistyped] }),
      status: 78,
      says: [/repository\.encryption\.recipients\[0\]/, /age-keygen/],
    },
    {
      about: "an identity in the place of a recipient",
      change: ({ repository }) => (repository.encryption = { recipients: ["AGE-SECRET-KEY-1CANARY"] }),
      status: 78,
      says: [/repository\.encryption\.recipients\[0\].*(private|secret)/i],
    },
    {
      about: "a cron expression that never fires",
      args: ["run"],
      change: (config) => (config.schedules = [{ name: "never", cron: "0 0 31 2 *" }]),
      status: 78,
      says: [/schedules\[0\]\.cron.*0 0 31 2 \*.*never/],
    },
    {
      about: "extras without encryption",
      change: ({ repository }) => {
        delete repository.encryption;
        repository.extras = ["/etc/hostname"];
      },
      status: 78,
      says: [/repository\.extras: would be stored unencrypted; write repository\.encryption, or remove extras/],
    },
    {
      about: "a section of a later version",
      change: (config) => Object.assign(config, { archive: { segment: { every: "5s" } } }),
      status: 78,
      says: [/archive/],
    },
    {
      about: "a directory store that does not exist",
      change: ({ repository }) => (repository.store = { directory: "/nonexistent/backups" }),
      status: 78,
      says: [/\/nonexistent\/backups does not exist/, /hint: .*(create|mount)/],
    },
  ])("$about", (bad) => expectRefused(users, bad));

  test("an identity that others may read is refused with the command that mends it", async () => {
    const open = join(users.directory, "open.key");
    await copyFile(users.identities[0], open);
    await chmod(open, 0o644);
    await expectRefused(users, {
      about: "world-readable identity",
      args: ["verify", "--level", "structure"],
      change: ({ repository }) => (repository.encryption = { ...encryptionOf(repository), identity: { file: open } }),
      status: 78,
      says: [`${open} is open to others than its owner (mode 0644)`, `chmod 600 ${open}`],
    });
  });

  test("a key that the daemon's user may not read is named with its user and a remedy", async () => {
    const { tls } = secure;
    if (tls === undefined) throw new Error("the cluster was to have TLS");
    await using room = await openSite({ cluster: { name: "prod", endpoints: [...secure.endpoints] } });
    const key = join(room.directory, "client.key");
    const [ca, cert] = [join(room.directory, "ca.crt"), join(room.directory, "client.crt")];
    for (const [from, to] of [
      [tls.key, key],
      [tls.ca, ca],
      [tls.cert, cert],
    ] as const) {
      await copyFile(from, to);
    }
    await chmod(key, 0o000);
    await chmod(room.directory, 0o755);
    await mkdir(room.spool);
    await expectRefused(room, {
      about: "unreadable key",
      change: (config) => {
        config.cluster.tls = { ca, cert, key };
        delete config.repository.encryption;
      },
      wrap: asNobody,
      status: 78,
      says: [
        `cluster.tls.key: ${key} may not be read by the user that runs this (uid ${nobody})`,
        /run: setfacl -m u:\w+:r /,
      ],
    });
  });

  test("a spool that belongs to somebody else is refused with the setting that names it", async () => {
    await using room = await openSite({ cluster: { name: "prod", endpoints: [...guarded.endpoints] } });
    await chmod(room.directory, 0o755);
    await mkdir(room.spool);
    await expectRefused(room, {
      about: "foreign spool",
      change: (config) => {
        delete config.repository.encryption;
        config.spool = { directory: "/root" };
      },
      wrap: asNobody,
      status: 78,
      says: [
        `error: spool.directory /root belongs to uid 0, and this runs as uid ${nobody}`,
        `hint: give it to the user that runs etcd-lifeboat: chown ${nobody} /root; or name another one`,
      ],
    });
  });

  test("is shown with the origin of every value, and secrets only by where they are", async () => {
    const env = { AWS_SECRET_ACCESS_KEY: s3.secretKey, ETCDCTL_USER: `root:${password}` };
    for (const args of [
      ["config", "show"],
      ["config", "show", "--json"],
      ["config", "check"],
    ]) {
      for (const at of [site, users]) {
        const shown = await at.run(args, { env });
        expect(shown.status, shown.stderr).toBe(0);
      }
    }
    const { stdout } = await users.run(["config", "show"]);
    expect(stdout).toContain(join(users.directory, "password"));
    expect(stdout).toMatch(/default/);
  });

  test("an identity of somebody else opens nothing, and says to whom the backup is encrypted", async () => {
    await using other = await openSite({ cluster: users.config.cluster });
    const out = join(users.directory, "never.db");
    const foreign = other.identities[0];
    const ended = await users.run(["fetch", "latest", "--output", out], {
      change: ({ repository }) =>
        (repository.encryption = { ...encryptionOf(repository), identity: { file: foreign } }),
    });
    expect(ended).toMatchObject({ status: 4, stdout: "", stderr: expect.stringMatching(/identity/) });
    const without = await users.run(["fetch", "latest", "--output", out], {
      change: ({ repository }) => delete repository.encryption?.identity,
    });
    expect(without).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(
        /is encrypted to age1\w+, age1\w+, and no identity is configured[^]*hint: set repository\.encryption\.identity/,
      ),
    });
    expect(await readdir(users.directory)).not.toContain("never.db");
    const nowhere = await users.run(["fetch", "latest", "--output", "/nonexistent/fetched.db"]);
    expect(nowhere).toMatchObject({
      status: 2,
      stderr: "error: /nonexistent does not exist\nhint: create it, or give another --output\n",
    });
    // A level that was asked for and cannot be done is no success; one that needs no key is.
    const level = (name: string): RunOptions & { args: string[] } => ({
      args: ["verify", "--level", name],
      change: ({ repository }) => delete repository.encryption?.identity,
    });
    const { args, ...structure } = level("structure");
    expect(await users.run(args, structure)).toMatchObject({
      status: 4,
      stdout: expect.stringMatching(/FAILED.*no identity/),
    });
    expect(await users.run(level("bytes").args, structure)).toMatchObject({ status: 0 });
  });
});

describe("an S3 store", slow, () => {
  let proxy: FaultProxy;
  beforeAll(async () => {
    proxy = await startFaultProxy(s3.url);
  });
  afterAll(() => proxy[Symbol.asyncDispose]());

  const into = (bucket: string, endpoint = (): string => s3.url): RunOptions => ({
    change: ({ repository }) => {
      repository.store = { s3: { bucket, endpoint: endpoint(), region: "us-east-1", pathStyle: true } };
    },
  });
  const keys = (accessKey: string, secretKey: string): Record<string, string> => ({
    AWS_ACCESS_KEY_ID: accessKey,
    AWS_SECRET_ACCESS_KEY: secretKey,
    AWS_EC2_METADATA_DISABLED: "true",
  });

  test("without the bucket", async () => {
    await expectRefused(users, {
      about: "no bucket",
      ...into("no-such-bucket"),
      env: keys(s3.accessKey, s3.secretKey),
      status: 78,
      says: [`bucket no-such-bucket does not exist at ${s3.url}`, "hint: create it"],
    });
  });

  test("with a wrong secret key, a wrong access key, and none", async () => {
    users.secrets.add("canary-of-a-wrong-key");
    await expectRefused(users, {
      about: "wrong secret key",
      ...into("backups"),
      env: keys(s3.accessKey, "canary-of-a-wrong-key"),
      status: 78,
      says: [/s3:\/\/backups|bucket backups/, "hint: the secret key does not belong to the access key"],
    });
    await expectRefused(users, {
      about: "wrong access key",
      ...into("backups"),
      env: keys("AKNOBODY", "canary-of-a-wrong-key"),
      status: 78,
      says: [/s3:\/\/backups|bucket backups/, "hint: the store does not know the access key"],
    });
    await expectRefused(users, {
      about: "no keys",
      ...into("backups"),
      env: { AWS_EC2_METADATA_DISABLED: "true" },
      status: 78,
      says: [/s3:\/\/backups|bucket backups/, /hint: no credentials were found: .*AWS_ACCESS_KEY_ID/],
    });
  });

  test("in another region, as AWS says it", async () => {
    const body = s3Error("AuthorizationHeaderMalformed").replace("</Error>", "<Region>eu-west-1</Region></Error>");
    const fired = proxy.add({
      method: "GET",
      path: /repository\.json/,
      times: 1,
      mischief: { kind: "answer", status: 400, body },
    });
    await expectRefused(users, {
      about: "wrong region",
      ...into("backups", () => proxy.endpoint),
      env: keys(s3.accessKey, s3.secretKey),
      status: 78,
      says: ["bucket backups lives in region eu-west-1", "hint: set the store's region to eu-west-1"],
    });
    expect(fired()).toBe(1);
  });

  test("whose certificate is from an authority that nobody named", async () => {
    await using tls = await startS3({ tls: true });
    await tls.createBucket("backups");
    const env = keys(tls.accessKey, tls.secretKey);
    const change =
      (ca?: string): NonNullable<RunOptions["change"]> =>
      ({ repository }) => {
        const s3Store = { bucket: "backups", endpoint: tls.url, region: "us-east-1", pathStyle: true };
        repository.store = { s3: ca === undefined ? s3Store : { ...s3Store, ca } };
      };
    await expectRefused(users, {
      about: "unknown CA",
      change: change(),
      env,
      status: 78,
      says: [
        `no trusted TLS connection to ${tls.url}`,
        /hint: the server's certificate is from an unknown authority: .*`ca`/,
      ],
    });
    expect((await users.run(["backup"], { change: change(tls.tls?.ca), env })).status).toBe(0);
  });

  test("that is full commits nothing", async () => {
    const full = { kind: "answer", status: 507, body: s3Error("XMinioStorageFull") } as const;
    const fired = proxy.add({ method: "PUT", path: /snapshots/, times: 20, mischief: full });
    const env = keys(s3.accessKey, s3.secretKey);
    await expectRefused(users, {
      about: "full",
      ...into("backups", () => proxy.endpoint),
      env,
      status: 1,
      says: [/XMinioStorageFull/, /hint: free space/],
    });
    expect(fired()).toBeGreaterThan(0);
    expect(await users.run(["list"], { ...into("backups"), env })).toMatchObject({ status: 10 });
  });

  test("whose listing holds hostile keys is read as if they were not there", async () => {
    const listed = hostileNames
      .map((key) => `<Contents><Key>${escapeXml(key)}</Key><Size>7</Size></Contents>`)
      .join("");
    const body = `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>backups</Name><IsTruncated>false</IsTruncated>${listed}</ListBucketResult>`;
    const fired = proxy.add({
      method: "GET",
      path: /list-type=2/,
      times: 10,
      mischief: { kind: "replace-reply", status: 200, body },
    });
    const ended = await users.run(["list"], {
      ...into("backups", () => proxy.endpoint),
      env: keys(s3.accessKey, s3.secretKey),
    });
    expect(fired()).toBeGreaterThan(0);
    expect(ended).toMatchObject({ status: 10, stdout: "" });
    expect(ended.stderr).toMatch(/^no backup in [^\n]*\n$/);
  });
});

const someUlid = "01KAJ0000000000000000000AB";
const hostileNames: readonly string[] = [
  "lineages/../x",
  "lineages/../../../../etc/passwd",
  "lineages//x.json",
  `lineages/${someUlid}/backups/20261121T090000Z.slot.UPPER.json`,
  `lineages/${someUlid}/backups/20261399T090000Z.slot.hourly.json`,
  `lineages/${someUlid}/backups/20261121T090000Z.slot.hourly.json/`,
  `lineages/${someUlid}/backups/../lineage.json`,
  `lineages/${someUlid}/backups/\u202Egpj.json`,
  `lineages/${someUlid}/backups/ ünïcode 🛟.json`,
  `lineages/${someUlid}/backups/${"9".repeat(900)}.json`,
  "\u001B[31mred",
];

function escapeXml(text: string): string {
  return Array.from(text, (character) => `&#x${(character.codePointAt(0) ?? 0).toString(16)};`).join("");
}

describe("disks", slow, () => {
  /** The command in a mount namespace of its own, where a small file system stands at `directory`. */
  const small = (directory: string, size: string, after = ""): readonly string[] => [
    "unshare",
    ...(isRoot ? ["--mount"] : ["--mount", "--map-root-user"]),
    "sh",
    "-c",
    `mount -t tmpfs -o size=${size},mode=0700 none '${directory}' || exit 99; "$@"; status=$?; ${after} exit $status`,
    "sh",
  ];

  test("without room for the spool are found before etcd is asked for a single byte", async () => {
    const spool = join(site.directory, "small-spool");
    await mkdir(spool);
    await expectRefused(site, {
      about: "small spool",
      change: (config) => (config.spool = { directory: spool }),
      wrap: small(spool, "2m"),
      status: 4,
      says: [new RegExp(`${spool} has \\d+ bytes free, .*and the snapshot needs \\d+`), /hint: .*spool\.directory/],
    });
  });

  test("that fill up under a directory store leave no backup behind", async () => {
    const store = join(site.directory, "small-store");
    await mkdir(store);
    const ended = await site.run(["backup"], {
      change: ({ repository }) => (repository.store = { directory: store }),
      wrap: small(store, "400k", `find '${store}' -type f;`),
    });
    expect(ended.status, ended.stderr).toBe(1);
    expect(ended.stderr).toMatch(new RegExp(`error: .*${store}`));
    expect(ended.stderr).toMatch(/hint: .*space/);
    expect(ended.stdout).toContain("repository.json");
    expect(ended.stdout).not.toContain("/backups/");
  });
});

describe("a repository that was tampered with", slow, () => {
  interface Tampered {
    /** A copy of the store, to be damaged. */
    readonly store: string;
    readonly use: RunOptions;
    /** Manifests and data objects of the two backups, oldest first. */
    readonly manifests: readonly [string, string];
    readonly data: readonly [string, string];
    readonly ids: readonly [string, string];
  }
  let copies = 0;

  async function tamper(): Promise<Tampered> {
    copies += 1;
    const store = join(site.directory, `copy-${copies}`);
    await cp(site.store, store, { recursive: true });
    const manifests = manifestsOf(await site.objects());
    const documents = await Promise.all(
      manifests.map(async (name) => {
        const { data, backup } = JSON.parse(await readFile(join(store, name), "utf8")) as {
          data: { object: string };
          backup: string;
        };
        return { manifest: join(store, name), data: join(store, data.object), id: backup };
      }),
    );
    const [first, second] = documents;
    if (first === undefined || second === undefined || documents.length > 2)
      throw new Error("two backups were expected");
    return {
      store,
      use: { change: ({ repository }) => (repository.store = { directory: store }) },
      manifests: [first.manifest, second.manifest],
      data: [first.data, second.data],
      ids: [first.id, second.id],
    };
  }

  const relativeTo = ({ store }: Tampered, path: string): string => path.slice(store.length + 1);

  test("a flipped byte is found by verify and by fetch, which leaves no file", async () => {
    const copy = await tamper();
    await flip(copy.data[1], 5000);
    const verified = await site.run(["verify", "--level", "bytes"], copy.use);
    expect(verified.status).toBe(12);
    expect(verified.stdout).toMatch(new RegExp(`${copy.ids[0]}\\s+ok`));
    expect(verified.stdout).toMatch(new RegExp(`${copy.ids[1]}\\s+FAILED\\s+${relativeTo(copy, copy.data[1])}`));
    const out = join(copy.store, "out.db");
    const fetched = await site.run(["fetch", copy.ids[1], "--output", out], copy.use);
    expect(fetched).toMatchObject({
      status: 12,
      stdout: "",
      stderr: expect.stringContaining(relativeTo(copy, copy.data[1])),
    });
    expect((await readdir(copy.store)).filter((name) => name.startsWith("out"))).toEqual([]);
    expect((await site.run(["verify", copy.ids[0], "--level", "structure"], copy.use)).status).toBe(0);
  });

  test("a truncated, a missing and two swapped objects are each told by name", async () => {
    const shorter = await tamper();
    await truncate(shorter.data[0], 4000);
    const found = await site.run(["verify", "--level", "manifest"], shorter.use);
    expect(found).toMatchObject({ status: 12, stdout: expect.stringMatching(/has 4000 bytes, its manifest says \d+/) });

    const deleted = await tamper();
    await rm(deleted.data[0]);
    const missing = await site.run(["verify", deleted.ids[0], "--level", "manifest", "--json"], deleted.use);
    expect(missing.status).toBe(12);
    expect(JSON.parse(missing.stdout)).toMatchObject({
      results: [
        {
          backup: deleted.ids[0],
          ok: false,
          message: expect.stringContaining(`${relativeTo(deleted, deleted.data[0])} is missing`),
        },
      ],
    });
    // It is still listed: hiding it would hide the damage.
    expect((await site.run(["list"], deleted.use)).stdout).toContain(deleted.ids[0]);

    const swapped = await tamper();
    await rename(swapped.data[0], `${swapped.data[0]}.tmp`);
    await rename(swapped.data[1], swapped.data[0]);
    await rename(`${swapped.data[0]}.tmp`, swapped.data[1]);
    const both = await site.run(["verify", "--level", "bytes"], swapped.use);
    expect(both.status).toBe(12);
    expect(both.stdout.match(/FAILED/g)).toHaveLength(2);
  });

  test("a manifest that was changed, unsigned, swapped or comes from another cluster is refused by name", async () => {
    const changed = await tamper();
    const text = await readFile(changed.manifests[1], "utf8");
    await writeFile(changed.manifests[1], text.replace('"label":"second"', '"label":"secund"'));
    expect(await site.run(["list"], changed.use)).toMatchObject({
      status: 12,
      stdout: expect.stringContaining(changed.ids[0]),
      stderr: expect.stringMatching(/refused: .*was changed after it was signed/),
    });
    const { signature: _, ...unsigned } = JSON.parse(text) as Record<string, unknown>;
    await writeFile(changed.manifests[1], `${JSON.stringify(unsigned)}\n`);
    expect(
      await site.run(["fetch", changed.ids[1], "--output", join(changed.store, "x.db")], changed.use),
    ).toMatchObject({
      status: 12,
      stderr: expect.stringMatching(/is not signed[^]*hint: repository\.signing\.trusted/),
    });

    const later = await tamper();
    await writeFile(later.manifests[1], '{"schema":"etcd-lifeboat/manifest/v2","chunks":[]}\n');
    const unsignedToo: RunOptions = {
      change: (config) => {
        config.repository.store = { directory: later.store };
        delete config.repository.signing;
      },
    };
    for (const args of [["list"], ["show", later.ids[1]]]) {
      expect(await site.run(args, unsignedToo)).toMatchObject({
        status: 12,
        stderr: expect.stringMatching(/has the format etcd-lifeboat\/manifest\/v2, which this version does not know/),
      });
    }

    const swapped = await tamper();
    await copyFile(swapped.manifests[0], swapped.manifests[1]);
    expect(await site.run(["list"], swapped.use)).toMatchObject({
      status: 12,
      stderr: expect.stringMatching(/holds the manifest of/),
    });

    // The whole lineage of another cluster, as a copying script would bring it.
    const mixed = await tamper();
    await cp(join(users.store, "lineages"), join(mixed.store, "lineages"), { recursive: true });
    const [foreign = ""] = manifestsOf(await users.objects());
    const foreignId = basename(foreign, ".json");
    const use: RunOptions = {
      change: (config) => {
        config.repository.store = { directory: mixed.store };
        delete config.repository.signing;
      },
    };
    const list = await site.run(["list"], use);
    expect(list.status).toBe(12);
    expect(list.stdout).toContain(mixed.ids[1]);
    expect(list.stdout).not.toContain(foreignId);
    expect(list.stderr).toMatch(new RegExp(`${foreignId}.*manifest of cluster "guarded"`));
    expect(await site.run(["fetch", foreignId, "--output", join(mixed.store, "x.db")], use)).toMatchObject({
      status: 12,
      stdout: "",
    });
  });

  test("planted objects with hostile names change nothing and reach no output", async () => {
    const copy = await tamper();
    const lineage = dirname(dirname(copy.manifests[0]));
    const plain = await site.run(["list"], copy.use);
    const names = [
      "a\nb.json",
      "20261121T090000Z.slot.x\u001B[31m.json",
      "..json",
      "ünï🛟.json",
      `${"9".repeat(240)}.json`,
      "-rf.json",
    ];
    for (const name of names) await writeFile(join(lineage, "backups", name), "{}");
    await mkdir(join(copy.store, "lineages", "..lineage"));
    await writeFile(join(copy.store, "lineages", "..lineage", "lineage.json"), "{}");
    await mkdir(join(copy.store, "lineages", someUlid, "backups"), { recursive: true });
    await symlink("/etc", join(copy.store, "lineages", "etc"));
    expect(plain.stderr).toBe("");
    expect(await site.run(["list"], copy.use)).toMatchObject({ status: 0, stderr: "" });
    expect((await site.run(["verify", "--level", "bytes"], copy.use)).status).toBe(0);
    expect((await site.run(["backup"], copy.use)).status).toBe(0);
    for (const wanted of ["../../repository", "lineages/../x", "a\nb", "x\u001B[31m"]) {
      const ended = await site.run(["show", wanted], copy.use);
      expect(ended.status).toBe(10);
      // oxlint-disable-next-line no-control-regex -- control characters are what must not be there
      expect(ended.stderr).not.toMatch(/[\u0000-\u0009\u000B-\u001F]/);
    }
  });
});

describe("a file to import", slow, () => {
  test("that is damaged, truncated, raw or no database is refused, and leaves nothing behind", async () => {
    const whole = join(site.directory, "saved.db");
    await secure.etcdctl(["snapshot", "save", whole]);
    const bytes = await readFile(whole);
    const before = await site.objects();
    const files = {
      flipped: Buffer.concat([bytes.subarray(0, 9000), Buffer.from([(bytes[9000] ?? 0) ^ 1]), bytes.subarray(9001)]),
      truncated: bytes.subarray(0, -4096),
      shorter: bytes.subarray(0, 8192 + 32),
      raw: bytes.subarray(0, -32),
      text: Buffer.from("this is no database\n"),
    };
    for (const [kind, content] of Object.entries(files)) {
      const file = join(site.directory, `${kind}.db`);
      await writeFile(file, content);
      await expectRefused(site, { about: kind, args: ["import", file], status: 12, says: [file] });
    }
    await expectRefused(site, {
      about: "missing",
      args: ["import", "/nonexistent.db"],
      status: 2,
      says: [/\/nonexistent\.db cannot be read: ENOENT/],
    });
    await expectRefused(site, {
      about: "a directory",
      args: ["import", site.directory],
      status: 2,
      says: [`${site.directory} is not a regular file`, "hint: name a file of etcdctl snapshot save"],
    });
    expect(await site.objects()).toEqual(before);
  });
});

function encryptionOf(repository: ConfigInput["repository"]): NonNullable<ConfigInput["repository"]["encryption"]> {
  if (repository.encryption === undefined) throw new Error("the site was to encrypt");
  return repository.encryption;
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

async function listening(
  server: ReturnType<typeof createServer> | ReturnType<typeof createTlsServer>,
): Promise<AsyncDisposable & { readonly port: number }> {
  server.on("tlsClientError", () => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      if ("closeAllConnections" in server) server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
