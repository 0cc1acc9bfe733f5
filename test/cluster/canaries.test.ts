import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import { request as askSecurely } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startCommand, type Ended } from "./command.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { startS3, type TestS3 } from "./s3.ts";
import { etcdProgram } from "./servers.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";
import { createAuthority } from "./tls.ts";

/**
 * Secrets are planted wherever one can be, and everything is run that uses them, also so that it fails. Then nothing that anybody else could read may hold one: not what
 * was printed, not a page, not the arguments of a process, not the environment of a child, not a temporary file, not an object in the bucket.
 */

const canaries = new Map<string, string>();

/** A secret that is told from any other; made of what a bearer token, a URL and a password may hold. */
function plant(name: string): string {
  const value = `canary${canaries.size}x${randomBytes(12).toString("hex")}`;
  canaries.set(name, value);
  return value;
}

/** A secret that somebody else made: a line of it, which is not in its public half. */
async function plantFile(name: string, path: string): Promise<void> {
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => /^[A-Za-z0-9+/=-]{40,}$/.test(line));
  const last = lines.filter((line) => !line.startsWith("-----")).at(-1);
  if (last === undefined) throw new Error(`${path} holds nothing that looks like a key`);
  canaries.set(name, last);
}

/** What anybody could have seen, by where. */
const seen: { readonly where: string; readonly bytes: Buffer }[] = [];

function look(where: string, what: string | Buffer): void {
  seen.push({ where, bytes: Buffer.from(what) });
}

function leaks(without: readonly string[] = []): readonly string[] {
  const forms = [...canaries]
    .filter(([name]) => !without.includes(name))
    .flatMap(([name, value]) => [
      { name, form: Buffer.from(value) },
      { name: `${name} in base64`, form: Buffer.from(Buffer.from(value).toString("base64").slice(0, -4)) },
    ]);
  return seen.flatMap(({ where, bytes }) =>
    forms.filter(({ form }) => bytes.includes(form)).map(({ name }) => `${name} in ${where}`),
  );
}

let cluster: TestCluster;
let s3: TestS3;
let site: Site;
let pings: { readonly url: string; readonly received: () => number; readonly close: () => void };
let env: Record<string, string>;
/** Programs that we started, by their names. */
const children = new Set<string>();

beforeAll(async () => {
  const password = plant("password of etcd");
  [cluster, s3] = await Promise.all([
    startCluster({ minor: "3.6", tls: true, auth: { rootPassword: password } }),
    startS3({ secretKey: plant("secret key of S3") }),
  ]);
  await s3.createBucket("backups");
  pings = await startPings();
  const { tls } = cluster;
  if (tls === undefined) throw new Error("the cluster was to have TLS");
  site = await openSite({
    cluster: { name: "prod", endpoints: [...cluster.endpoints], tls: { ca: tls.ca, cert: tls.cert, key: tls.key } },
    signed: true,
    extras: [join(cluster.directory, "extra")],
    schedules: [{ name: "often", cron: "*/2 * * * * *" }],
  });
  await writeFile(join(cluster.directory, "extra"), plant("content of an extra"));
  await cluster.put("registry", plant("value in etcd"));
  await plantFile("key towards etcd", tls.key);
  await plantFile("identity of age", site.identities[0]);
  await plantFile("key that signs", join(site.directory, "signing.pem"));

  const secret = async (name: string, value: string): Promise<{ readonly file: string }> => {
    const file = join(site.directory, name.replaceAll(" ", "-"));
    await writeFile(file, `${value}\n`, { mode: 0o600 });
    return { file };
  };
  const authority = await createAuthority(join(site.directory, "pages"));
  const page = await authority.issue({ commonName: "pages", usage: "server" });
  await plantFile("key of the pages", page.key);
  await mkdir(join(site.directory, "credentials"));
  await writeFile(
    join(site.directory, "credentials/ping"),
    `${pings.url}/${plant("address of a ping in a credential")}`,
  );
  const config = site.config;
  config.cluster.auth = { username: "root", password: await secret("password", password) };
  config.repository.store = {
    s3: {
      bucket: "backups",
      endpoint: s3.url,
      region: s3.region,
      pathStyle: true,
      credentials: await secret(
        "s3 credentials",
        `[default]\naws_access_key_id = ${s3.accessKey}\naws_secret_access_key = ${s3.secretKey}`,
      ),
    },
  };
  config.http = {
    listen: "127.0.0.1:0",
    tls: { cert: page.cert, key: await secret("page key", await readFile(page.key, "utf8")) },
    token: await secret("page token", plant("token of the pages")),
  };
  config.notify = {
    start: `${pings.url}/refused/${plant("address of a ping in the configuration")}`,
    success: { env: "PING_SUCCESS" },
    failure: { credential: "ping" },
  };
  await mkdir(join(site.directory, "tmp"));
  env = {
    TMPDIR: join(site.directory, "tmp"),
    CREDENTIALS_DIRECTORY: join(site.directory, "credentials"),
    PING_SUCCESS: `${pings.url}/${plant("address of a ping in the environment")}`,
    SOMEBODY_ELSES_SECRET: plant("variable that is not ours"),
    AWS_SECRET_ACCESS_KEY: plant("secret key in the environment"),
    AWS_SESSION_TOKEN: plant("session token in the environment"),
    AWS_ACCESS_KEY_ID: "AKSOMEBODYELSE",
    ETCDCTL_USER: `root:${plant("password for etcdctl in the environment")}`,
  };
});

afterAll(async () => {
  pings.close();
  await site[Symbol.asyncDispose]();
  await Promise.all([cluster[Symbol.asyncDispose](), s3[Symbol.asyncDispose]()]);
});

/** Refuses what comes below /refused, as often as it comes. */
async function startPings(): Promise<typeof pings> {
  let received = 0;
  const server = createServer((request, response) => {
    received += 1;
    response.statusCode = request.url?.startsWith("/refused/") === true ? 500 : 200;
    response.end("thank you");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    received: () => received,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Runs a command, and watches it and what it starts until it has ended. */
async function watched(
  args: readonly string[],
  change?: (config: ConfigInput) => void,
  during: (lines: () => string) => Promise<NodeJS.Signals | undefined> = async () => undefined,
): Promise<Ended> {
  const started = startCommand([...args, ...(await site.configure(change))], { env });
  let said = "";
  started.onError((text) => (said += text));
  let over = false;
  const watching = (async () => {
    while (!over) {
      await lookAtProcesses(started.child.pid ?? 0, args.join(" "));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  try {
    const signal = await during(() => said);
    if (signal !== undefined) started.child.kill(signal);
    const ended = await started.ended;
    look(`what ${args.join(" ")} printed`, ended.stdout + ended.stderr);
    return ended;
  } finally {
    started.child.kill("SIGKILL");
    over = true;
    await watching;
    await lookAtFiles(site.spool, `the spool after ${args.join(" ")}`);
    await lookAtFiles(join(site.directory, "tmp"), `the temporary directory after ${args.join(" ")}`);
  }
}

/** The arguments of a process and of all that it started, and the environment of the latter. */
async function lookAtProcesses(root: number, what: string): Promise<void> {
  const family = new Set([root]);
  // Grows while it is walked. What starts a child is a thread.
  for (const pid of family) {
    for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
      const started = await readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "");
      for (const child of started.trim().split(" ")) if (child !== "") family.add(Number(child));
    }
  }
  for (const pid of family) {
    const file = async (name: string): Promise<string> =>
      await readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    look(`the arguments of a process of ${what}`, await file("cmdline"));
    const name = (await file("comm")).trim();
    // Between fork and exec a child still is its parent.
    if (pid === root || name === "" || /^(node|MainThread)/.test(name)) continue;
    children.add(name);
    look(`the environment of ${name} of ${what}`, await file("environ"));
  }
}

async function lookAtFiles(directory: string, where: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries.filter((each) => each.isFile())) {
    look(where, await readFile(join(entry.parentPath, entry.name)).catch(() => ""));
  }
}

function get(url: string, ca: Buffer, token: string | undefined): Promise<string> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const request = askSecurely(url, { ca, headers, agent: false }, (response: IncomingMessage) => {
      let body = `${response.statusCode} ${JSON.stringify(response.headers)}\n`;
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => resolve(body));
    });
    request.on("error", reject);
    request.end();
  });
}

test("twenty secrets, planted wherever one can be, are found nowhere", { timeout: 480_000 }, async () => {
  // What works.
  const pagesCa = await readFile(join(site.directory, "pages/ca.crt"));
  const token = canaries.get("token of the pages");
  const daemon = await watched(["run"], undefined, async (lines) => {
    await expect.poll(lines, { timeout: 180_000 }).toContain('"backup.committed"');
    const url = /"listen":"(https:[^"]+)"/.exec(lines())?.[1] ?? "";
    for (const page of ["metrics", "", "livez?verbose", "readyz?verbose"]) {
      const own = await get(`${url}/${page}`, pagesCa, token);
      expect(own).toMatch(/^200 /);
      look(`the page /${page}`, own);
      look(
        `the page /${page} without the token`,
        await get(`${url}/${page}`, pagesCa, plant(`wrong token for /${page}`)),
      );
    }
    expect(await get(`${url}/metrics`, pagesCa, undefined)).toMatch(/^401 /);
    await expect.poll(lines, { timeout: 60_000 }).toContain('"ping.failed"');
    return "SIGTERM";
  });
  expect(daemon.status, daemon.stderr).toBe(0);
  expect(pings.received()).toBeGreaterThan(1);
  expect((await watched(["backup", "--json"])).status).toBe(0);
  const tools = dirname(dirname(etcdProgram("3.6", "etcd")));
  expect(await watched(["verify", "latest", "--level", "boot", "--tools", tools])).toMatchObject({ status: 0 });
  for (const args of [["status"], ["config", "show", "--json"]]) {
    await watched(args);
  }
  expect((await watched(["doctor"])).status).toBe(0);

  // What fails, each in the way that quotes most.
  const wrong = async (name: string, value: string): Promise<{ readonly file: string }> => {
    const file = join(site.directory, name);
    await writeFile(file, value, { mode: 0o600 });
    return { file };
  };
  const wrongPassword = await wrong("wrong-password", plant("wrong password of etcd"));
  const wrongKeys = `[default]\naws_access_key_id = ${s3.accessKey}\naws_secret_access_key = ${plant("wrong secret key of S3")}`;
  const openToken = await wrong("short-token", "canary-short");
  const otherCa = join(site.directory, "pages/ca.crt");
  const failing: readonly (readonly [status: number, change: (config: ConfigInput) => void])[] = [
    [78, ({ cluster: of }) => void (of.auth = { username: "root", password: wrongPassword })],
    [78, ({ cluster: of }) => void (of.auth = { username: "root", password: { env: "ETCDCTL_USER" } })],
    [78, ({ cluster: of }) => void (of.tls = { ...of.tls, ca: otherCa })],
    [78, ({ repository: of }) => void (storeOf(of).s3.credentials = { file: join(site.directory, "wrong-keys") })],
    // The keys of the environment, with a session token.
    [78, ({ repository: of }) => void delete storeOf(of).s3.credentials],
    [78, (config) => void (config.http = { ...config.http, token: openToken })],
    [78, ({ cluster: of }) => void (of.endpoints = [`https://root:${plant("password in an endpoint")}@127.0.0.1:1`])],
    [
      78,
      ({ repository: of }) =>
        void (storeOf(of).s3.endpoint = `http://a:${plant("secret in S3's endpoint")}@127.0.0.1:1`),
    ],
    [78, (config) => void (config.notify = { start: `https://a:${plant("password in a ping")}@127.0.0.1/x` })],
    [
      78,
      ({ cluster: of }) =>
        void (of.auth = {
          username: "root",
          password: plant("password in the configuration") as unknown as { env: string },
        }),
    ],
    [78, ({ repository: of }) => void (of.encryption = { recipients: [plantIdentity()] })],
  ];
  await wrong("wrong-keys", wrongKeys);
  for (const [index, [status, change]] of failing.entries()) {
    const args = ["backup", ...(index % 2 === 0 ? [] : ["--json"])];
    const ended = await watched(args, change);
    expect(ended.status, ended.stderr).toBe(status);
  }

  await lookAtFiles(s3.directory, "the bucket");
  expect(seen.filter(({ where }) => where === "the bucket").length).toBeGreaterThan(4);
  expect([...children]).toEqual(expect.arrayContaining(["etcd"]));
  expect(canaries.size).toBeGreaterThanOrEqual(20);
  expect(leaks()).toEqual([]);

  // And had one leaked, it would have been found.
  look("the proof", `error: ${token}`);
  expect(leaks()).toEqual(["token of the pages in the proof"]);
});

interface S3Store {
  readonly s3: { credentials?: { readonly file: string } | undefined; endpoint?: string | undefined };
}

function storeOf({ store }: ConfigInput["repository"]): S3Store {
  return store as S3Store;
}

/** A private key in the place of a public one. */
function plantIdentity(): string {
  const value = `AGE-SECRET-KEY-1${randomBytes(24).toString("hex").toUpperCase()}`;
  canaries.set("identity in the place of a recipient", value);
  return value;
}
