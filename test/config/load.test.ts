import { readFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { parseDocument } from "yaml";
import { describeProblems, examineConfig, loadConfig } from "../../src/config/load.ts";
import type { ConfigProblem, LoadedConfig } from "../../src/config/load.ts";
import { laterSections } from "../../src/config/schema.ts";
import { isFault } from "../../src/faults.ts";
import { scratchDirectory, scratchFile } from "./scratch.ts";

const fixtures = join(import.meta.dirname, "fixtures");
const examples = join(import.meta.dirname, "../../config");

const minimal = `
cluster: { name: dev, endpoints: [http://127.0.0.1:2379] }
repository: { store: { directory: /var/backups/etcd } }
`;

const onS3 = `
cluster: { name: dev, endpoints: [http://127.0.0.1:2379] }
repository: { store: { s3: { bucket: etcd-backups } } }
`;

function load(text: string, env: Record<string, string> = {}): LoadedConfig {
  return loadConfig({ path: scratchFile("etcd-lifeboat.yaml", text), env, files: false });
}

function problems(text: string, env: Record<string, string> = {}): readonly ConfigProblem[] {
  const examined = examineConfig({ path: scratchFile("etcd-lifeboat.yaml", text), env, files: false });
  return examined.kind === "broken" ? examined.problems : [];
}

function only(text: string, env: Record<string, string> = {}): ConfigProblem {
  const [first, ...others] = problems(text, env);
  expect(others).toStrictEqual([]);
  if (first === undefined) throw new Error("accepted");
  return first;
}

function faultOf(action: () => unknown): { message: string; hint: string | undefined } {
  try {
    action();
  } catch (error) {
    if (isFault(error, "config-invalid")) return { message: error.message, hint: error.hint };
    throw error;
  }
  throw new Error("accepted");
}

describe("what is accepted", () => {
  test("the least configuration gets every default", () => {
    const { config } = load(minimal);
    expect(config).toStrictEqual({
      cluster: { name: "dev", endpoints: ["http://127.0.0.1:2379"], members: {} },
      repository: {
        store: { kind: "directory", directory: "/var/backups/etcd" },
        copies: [],
        readBack: { belowBytes: undefined },
        compression: { level: 1 },
        coordination: { prefix: "coordination" },
        extras: [],
      },
      spool: { directory: "/var/cache/etcd-lifeboat", maxRateBytes: undefined, pace: "never" },
      schedules: [],
      proof: { allowLeader: true },
      http: { listen: { host: "127.0.0.1", port: 9979 } },
      log: { level: "info", format: "json" },
      notify: {},
      hosts: {},
      hooks: {},
      operations: { directory: "/var/lib/etcd-lifeboat/operations" },
    });
  });

  test("durations become milliseconds, sizes bytes, cron expressions fields, listening addresses host and port", () => {
    const { config } = load(`${minimal.replace("etcd }", "etcd }, readBack: { below: 8GiB }")}
spool: { maxRate: 200MiB }
schedules: [{ name: hourly, cron: "0 * * * *", timeZone: Europe/Berlin, jitter: 2m }]
http: { listen: "[::1]:0" }
`);
    expect(config.repository.readBack.belowBytes).toBe(8 * 1024 ** 3);
    expect(config.spool.maxRateBytes).toBe(200 * 1024 ** 2);
    expect(config.schedules[0]).toMatchObject({ cron: "0 * * * *", timeZone: "Europe/Berlin", jitterMs: 120_000 });
    expect(config.schedules[0]?.fields.minute).toStrictEqual([0]);
    expect(config.http.listen).toStrictEqual({ host: "::1", port: 0 });
  });

  test("a configuration is frozen to its leaves", () => {
    const loaded = load(minimal);
    expect(Object.isFrozen(loaded.config.cluster.endpoints)).toBe(true);
    expect(Object.isFrozen(loaded.config.http.listen)).toBe(true);
    expect(Object.isFrozen(loaded.warnings)).toBe(true);
  });

  test.each(["etcd-lifeboat.yaml", "minimal.yaml"])(
    "the example %s loads, and names its schema for editors",
    (name) => {
      const path = join(examples, name);
      expect(loadConfig({ path, env: {}, files: false }).config.cluster.name).not.toBe("");
      expect(readFileSync(path, "utf8").split("\n")[0]).toBe(
        "# yaml-language-server: $schema=etcd-lifeboat.schema.json",
      );
    },
  );

  test("what the example shows in comments is accepted too", () => {
    const text = readFileSync(join(examples, "etcd-lifeboat.yaml"), "utf8");
    // Only comments that hold configuration: a key with a value, a section's head, or what is inside of one.
    const opened = text.replaceAll(
      /^( *)# ((?:auth|members|notify|identity|signing|extras|maxRate|pace|readBack|endpoint|pathStyle|ca|copies|hosts|hooks|operations|  +[\w-]+|  +- (?:\{ )?name):.*)$/gm,
      "$1$2",
    );
    const { config } = load(opened);
    expect(config.cluster.auth?.username).toBe("root");
    expect(config.cluster.members["cp1"]).toStrictEqual({ metricsUrl: "http://127.0.0.1:2381" });
    expect(config.repository.signing?.key).toStrictEqual({ credential: "manifest-key" });
    expect(config.repository.extras).toHaveLength(2);
    expect(config.repository.copies.map(({ name }) => name)).toStrictEqual(["offsite"]);
    expect(config.repository.store).toMatchObject({ endpoint: "https://s3.example.org", pathStyle: true });
    expect(config.repository.readBack.belowBytes).toBe(8 * 1024 ** 3);
    expect(config.notify.start).toStrictEqual({ file: "/etc/etcd-lifeboat/ping-start" });
    expect(config.hosts["cp1"]?.etcd?.service).toStrictEqual({ kind: "static-pod", pod: "etcd" });
    expect(config.hosts["cp1"]?.services.map(({ way }) => way.kind)).toStrictEqual([
      "static-pod",
      "static-pod",
      "static-pod",
      "systemd",
      "command",
    ]);
    expect(config.hooks["before-stop-api-servers"]?.argv).toHaveLength(2);
  });

  test("the keys of the example are named in a warning, since nobody could open what they encrypt", () => {
    const { warnings } = loadConfig({ path: join(examples, "etcd-lifeboat.yaml"), env: {}, files: false });
    expect(warnings.map(({ about }) => about)).toStrictEqual([
      "repository.encryption.recipients[0]",
      "repository.encryption.recipients[1]",
    ]);
  });
});

describe("copies", () => {
  const withCopies = (...copies: readonly string[]): string =>
    `cluster: { name: dev, endpoints: [http://127.0.0.1:2379] }
repository:
  store: { directory: /var/backups/etcd }
  copies:
${copies.map((copy) => `    - ${copy}\n`).join("")}`;

  test("have a name and a store each, which is filled and checked like the first one", () => {
    const text = withCopies(
      "{ name: usb, store: { directory: /mnt/usb } }",
      "{ name: cloud, store: { s3: { bucket: etcd-copies } } }",
    );
    const { config, origins } = load(text, { AWS_REGION: "eu-central-1" });
    expect(config.repository.copies).toMatchObject([
      { name: "usb", store: { kind: "directory", directory: "/mnt/usb" } },
      { name: "cloud", store: { kind: "s3", bucket: "etcd-copies", region: "eu-central-1" } },
    ]);
    expect(origins.get("repository.copies[1].store.s3.region")).toStrictEqual({ kind: "env", name: "AWS_REGION" });
    expect(only(text)).toMatchObject({ about: "repository.copies[1].store.s3.region" });
  });

  test("of one name, at one place, or at the first store's, are refused", () => {
    const found = problems(
      withCopies(
        "{ name: usb, store: { directory: /mnt/usb } }",
        "{ name: usb, store: { directory: /mnt/usb/ } }",
        "{ name: first, store: { directory: /var/backups/etcd } }",
        "{ name: neither, store: {} }",
      ),
    );
    expect(found.map(({ about, message }) => `${about} ${message}`)).toStrictEqual([
      "repository.copies[1].name is the name of repository.copies[0] already",
      "repository.copies[1].store is the same place as repository.copies[0].store; a copy belongs elsewhere",
      "repository.copies[2].store is the same place as repository.store; a copy belongs elsewhere",
      "repository.copies[3].store must name exactly one of s3 and directory",
    ]);
  });
});

describe("sections of later versions", () => {
  const sketch = readFileSync(join(fixtures, "whole.yaml"), "utf8")
    // The sketch has words where public keys belong.
    .replace("age1exampleoperations", "age1xc304nlqamdzcrsw3zzmtdle59637qjstsgg7fcgaz3c49d07v8qy5zrwc")
    .replace("age1exampleescrow", "age1g3lgrzepmvzztpv7yrd9hmamvus7h53e9neajrntcja29syfxyxs6qsxth")
    // Hosts behind ssh come later, too; test/config/hosts.test.ts says how that is told. Two members on one machine have two directories.
    .replaceAll(/reach: \{ ssh: .*\} \}/g, "reach: local")
    .replace("dataDirectory: /var/lib/etcd, wal", "dataDirectory: /opt/etcd/data, wal");

  test("every section of the whole configuration that is not built yet is refused by name, and nothing else", () => {
    const refused = problems(sketch);
    expect(refused.map(({ about }) => about).toSorted()).toStrictEqual(laterSections.toSorted());
    for (const { message } of refused) {
      expect(message).toMatch(/^not in this version of etcd-lifeboat \(\d+\.\d+\.\d+\); remove the section$/);
    }
  });

  test("with these removed the rest of the whole configuration is accepted", () => {
    const document = parseDocument(sketch);
    for (const section of laterSections) document.deleteIn(section.split("."));
    const { config } = load(document.toString());
    expect(config.repository.store).toStrictEqual({
      kind: "s3",
      bucket: "etcd-backups",
      prefix: "prod",
      region: "eu-central-1",
      endpoint: "https://s3.example.org",
      pathStyle: true,
      ca: "/etc/ssl/s3-ca.pem",
      checksums: "full",
    });
    expect(config.repository.encryption?.identity).toStrictEqual({ file: "/root/age.key" });
    expect(config.cluster.members["cp2"]?.metricsUrl).toBe("http://10.0.0.12:2381");
  });
});

describe("the address of a dead man's switch", () => {
  const notify = (value: string): string => `${minimal}notify: { success: ${value} }`;

  test("is a URL, or where one is found, and is never shown", () => {
    const plain = load(notify('"https://hc.example.org/ping/s3cret/{schedule}"'));
    expect(plain.config.notify.success).toEqual({ url: "https://hc.example.org/ping/s3cret/{schedule}" });
    expect(JSON.stringify(plain.settings)).not.toContain("s3cret");
    const found = load(notify("{ file: /etc/etcd-lifeboat/ping }"));
    expect(found.config.notify.success).toEqual({ file: "/etc/etcd-lifeboat/ping" });
    expect(load(notify("http://127.0.0.1:8080/s3cret")).config.notify.success).toBeDefined();
  });

  test.each([
    ["http://hc.example.org/s3cret", "is not https:// (http:// is for loopback alone)"],
    ["ftp://hc.example.org/s3cret", "is not https://"],
    ["s3cret", "is no URL (what stands here is not shown)"],
    ["https://user:s3cret@hc.example.org/", "holds a user or password, which pings do not send"],
    ["{ url: s3cret }", "not shown"],
    ["17", "not shown"],
    ["[s3cret]", "not shown"],
  ])("%s is refused without being shown", (value, why) => {
    const found = problems(
      notify(value.startsWith("{") || value.startsWith("[") ? value : `"${value}"`).replace('"17"', "17"),
    );
    expect(found.map(({ message }) => message).join("; ")).toContain(why);
    expect(JSON.stringify(found)).not.toContain("s3cret");
  });
});

describe("what is wrong", () => {
  test("all problems of a file are told together, with place, path and remedy", async () => {
    const path = join(fixtures, "wrong.yaml");
    const examined = examineConfig({ path, env: {} });
    if (examined.kind !== "broken") throw new Error("accepted");
    const text = describeProblems("wrong.yaml", examined.problems);
    expect(text.toLowerCase()).not.toContain("hunter2");
    await expect(`${text.replaceAll(/\(\d+\.\d+\.\d+\)/g, "(VERSION)")}\n`).toMatchFileSnapshot(
      join(fixtures, "wrong.txt"),
    );
    expect(faultOf(() => loadConfig({ path, env: {} })).message).toBe(describeProblems(path, examined.problems));
  });

  test("an unknown key is refused with the key that was meant", () => {
    expect(only(`${minimal}spol: {}\n`)).toStrictEqual({
      about: "spol",
      message: "unknown key; did you mean spool?",
      line: 4,
      column: 1,
      variable: undefined,
    });
    expect(only(`${minimal}endpoints: []\n`).message).toBe("unknown key; did you mean cluster.endpoints?");
  });

  test("a single problem stands on one line behind file, line and column", () => {
    const path = scratchFile("one.yaml", minimal.replace("http://127.0.0.1:2379", "10.0.0.1:2379"));
    expect(faultOf(() => loadConfig({ path, env: {} })).message).toBe(
      `${path}:2:35: cluster.endpoints[0]: "10.0.0.1:2379" has no scheme; write https://10.0.0.1:2379 (or http:// without TLS)`,
    );
  });

  test("a store that is none or two is refused", () => {
    for (const store of ["{}", "{ directory: /a, s3: { bucket: abc, region: r } }"]) {
      expect(only(minimal.replace("{ directory: /var/backups/etcd }", store))).toMatchObject({
        about: "repository.store",
        message: "must name exactly one of s3 and directory",
      });
    }
  });

  test("a certificate without its key, a key without its certificate, and TLS files for plain endpoints are refused", () => {
    const secure = (tls: string): string =>
      minimal.replace("http://127.0.0.1:2379]", `https://10.0.0.1:2379], tls: ${tls}`);
    expect(only(secure("{ cert: /a }")).message).toContain("write cluster.tls.key");
    expect(only(secure("{ key: /a }")).message).toContain("write cluster.tls.cert");
    expect(problems(secure("{ key: /a, cert: /b, ca: /c }"))).toStrictEqual([]);
    expect(only(minimal.replace("2379]", "2379], tls: { ca: /a }")).message).toContain("no use with http:// endpoints");
  });

  test("extras without encryption are refused", () => {
    expect(only(minimal.replace("etcd }", "etcd }, extras: [/etc/kubernetes/pki]"))).toMatchObject({
      about: "repository.extras",
    });
  });

  test("a bucket without region and endpoint is refused; with an endpoint it is us-east-1", () => {
    expect(only(onS3)).toMatchObject({
      about: "repository.store.s3.region",
      message: "is missing; write the bucket's region, or set AWS_REGION",
    });
    const loaded = load(onS3.replace("etcd-backups", "etcd-backups, endpoint: https://s3.example.org"));
    expect(loaded.config.repository.store).toMatchObject({ region: "us-east-1" });
    expect(loaded.origins.get("repository.store.s3.region")).toStrictEqual({ kind: "default" });
  });

  describe.each(["0.0.0.0:9979", "10.0.0.1:9979", "[::]:9979", "example.org:9979"])("listening on %s", (listen) => {
    const http = (guard: string): string => `${minimal}http: { listen: "${listen}"${guard} }\n`;
    const tls = ", tls: { cert: /etc/etcd-lifeboat/http.crt, key: { file: /etc/etcd-lifeboat/http.key } }";
    const token = ", token: { file: /etc/etcd-lifeboat/http.token }";

    test("is refused without TLS and without a token, with what to write", () => {
      expect(only(http("")).message).toBe(
        `"${listen}" is not loopback, and nothing guards the pages; write http.token and http.tls, or 127.0.0.1:9979`,
      );
    });

    test("is allowed with one of them, and a token in the clear is worth a word", () => {
      const about = (loaded: LoadedConfig): boolean => loaded.warnings.some((warning) => warning.about === "http.tls");
      expect([http(tls), http(token), http(tls + token)].map((text) => about(load(text)))).toEqual([
        false,
        true,
        false,
      ]);
    });
  });

  test.each(["127.0.0.1", ":9979", "127.0.0.1:99999", "localhost:http", "::1:80"])(
    "%s is no address to listen on",
    (listen) => {
      expect(only(`${minimal}http: { listen: "${listen}" }\n`).message).toContain("write HOST:PORT");
    },
  );
});

describe("the file itself", () => {
  test("a missing file, a directory, a large file and bytes that are no text are refused with a remedy", () => {
    const directory = scratchDirectory();
    const cases = [
      [join(directory, "none.yaml"), "does not exist"],
      [directory, "is a directory"],
      [scratchFile("large.yaml", `#${"x".repeat(1024 * 1024)}`), "is larger than 1 MiB"],
      [scratchFile("binary.yaml", Buffer.from([0x61, 0xff])), "is not UTF-8 text"],
    ] as const;
    for (const [path, why] of cases) {
      const { message, hint } = faultOf(() => loadConfig({ path, env: {} }));
      expect(message).toContain(`configuration ${path} ${why}`);
      expect(hint).toBeDefined();
    }
  });

  test("a file that this user may not read says so with the user", () => {
    const path = scratchFile("closed.yaml", minimal, 0o000);
    const { message, hint } = asNobody(() => faultOf(() => loadConfig({ path, env: {} })));
    expect(message).toMatch(/may not be read by the user that runs this \(uid \d+\)$/);
    expect(hint).toContain("let that user read it");
  });

  test.each([
    ["a key twice", "log: {}\nlog: {}\n", 2, "a key that this section has already"],
    ["a tab", "log:\n\tlevel: info\n", 2, "a tab as indentation"],
    ["a brace that is not closed", "log: { level: info\n", 2, "not closed"],
    ["a second document", "log: {}\n---\nlog: {}\n", 2, "a second document"],
    ["a cron expression without quotes", "schedules:\n  - { name: a, cron: * * * * * }\n", 2, "must stand in quotes"],
    ["an alias without anchor", "log:\n  level: *info\n", 2, "without its anchor"],
    ["a tag", "log: !secret hunter2\n", 1, "a tag (!)"],
  ])("%s is refused at its line", (_name, text, line, message) => {
    const [problem] = problems(text);
    expect(problem?.line).toBe(line);
    expect(problem?.message).toContain(message);
  });

  test("an empty file and a file that is only text are refused", () => {
    expect(problems("")[0]?.message).toContain("is empty");
    expect(problems("canary")[0]?.message).toContain("must be a section");
  });

  test("aliases that unfold to millions of values are refused in bounded time", () => {
    const levels = Array.from({ length: 12 }, (_, level) =>
      level === 0
        ? "a0: &a0 [x, x, x, x, x, x, x, x, x]"
        : `a${level}: &a${level} [${Array(9)
            .fill(`*a${level - 1}`)
            .join(", ")}]`,
    );
    expect(problems(levels.join("\n"))[0]?.message).toContain("aliases (*) unfold to too much");
  });

  test("an anchor that holds itself is refused", () => {
    expect(problems("log: &a { level: *a }\n")[0]?.message).toBeDefined();
  });

  test.each(["[", "{a: ", "- "])("%j a hundred thousand times is refused", (text) => {
    expect(problems(text.repeat(100_000))[0]?.message).toMatch(/nested too deeply|not YAML|two keys/);
  });

  test("keys of JavaScript's own are unknown keys", () => {
    expect(
      problems(`${minimal}__proto__: { spool: {} }\nconstructor: {}\ntoString: 1\n`).map(({ about }) => about),
    ).toStrictEqual(["__proto__", "constructor", "toString"]);
  });
});

describe("the environment", () => {
  test("variables of etcdctl fill what the file leaves out", () => {
    const { config, origins } = load(`cluster: { name: dev }\nrepository: { store: { directory: /a } }\n`, {
      ETCDCTL_ENDPOINTS: "10.0.0.1:2379, https://10.0.0.2:2379",
      ETCDCTL_CACERT: "/ca.pem",
      ETCDCTL_CERT: "/cert.pem",
      ETCDCTL_KEY: "/key.pem",
      ETCDCTL_USER: "root",
      ETCDCTL_PASSWORD: "canary",
    });
    expect(config.cluster).toStrictEqual({
      name: "dev",
      endpoints: ["https://10.0.0.1:2379", "https://10.0.0.2:2379"],
      tls: { ca: "/ca.pem", cert: "/cert.pem", key: "/key.pem" },
      auth: { username: "root", password: { env: "ETCDCTL_PASSWORD" } },
      members: {},
    });
    expect(origins.get("cluster.endpoints[1]")).toStrictEqual({ kind: "env", name: "ETCDCTL_ENDPOINTS" });
    expect(origins.get("cluster.auth.password")).toStrictEqual({ kind: "env", name: "ETCDCTL_PASSWORD" });
    expect(origins.get("cluster.name")).toStrictEqual({ kind: "file", line: 1, column: 18 });
  });

  test("endpoints without scheme are http where no TLS file is set", () => {
    const text = "cluster: { name: dev }\nrepository: { store: { directory: /a } }\n";
    expect(load(text, { ETCDCTL_ENDPOINTS: "127.0.0.1:2379" }).config.cluster.endpoints).toStrictEqual([
      "http://127.0.0.1:2379",
    ]);
  });

  test("a password inside of ETCDCTL_USER stays in its variable", () => {
    const loaded = load(minimal, { ETCDCTL_USER: "root:canary" });
    expect(loaded.config.cluster.auth).toStrictEqual({ username: "root", password: { env: "ETCDCTL_USER" } });
    expect(inspect(loaded, { depth: 20 })).not.toContain("canary");
  });

  test("a user without password is a problem of its variable", () => {
    expect(only(minimal, { ETCDCTL_USER: "root" })).toMatchObject({ about: "cluster.auth.password" });
  });

  test("what the file says wins", () => {
    const { config } = load(minimal, { ETCDCTL_ENDPOINTS: "10.9.9.9:2379", ETCDCTL_CACERT: "/ca.pem" });
    expect(config.cluster.endpoints).toStrictEqual(["http://127.0.0.1:2379"]);
    expect(config.cluster.tls).toBeUndefined();
  });

  test("TLS files are not taken from variables for plain endpoints, nor half a pair beside the file's", () => {
    const env = { ETCDCTL_CACERT: "/ca.pem", ETCDCTL_CERT: "/cert.pem", ETCDCTL_KEY: "/key.pem" };
    const text = "cluster: { name: dev }\nrepository: { store: { directory: /a } }\n";
    expect(load(text, { ...env, ETCDCTL_ENDPOINTS: "http://127.0.0.1:2379" }).config.cluster.tls).toBeUndefined();
    const half = minimal.replace("http://127.0.0.1:2379]", "https://10.0.0.1:2379], tls: { cert: /own.pem }");
    expect(only(half, env)).toMatchObject({ about: "cluster.tls.cert" });
  });

  test("a problem of a variable names the variable", () => {
    expect(
      only("cluster: { name: dev }\nrepository: { store: { directory: /a } }\n", {
        ETCDCTL_ENDPOINTS: "https://u:canary@h:2379",
      }),
    ).toStrictEqual({
      about: "cluster.endpoints[0]",
      message: "holds a user or password; write them under cluster.auth, and here scheme, host and port only",
      line: undefined,
      column: undefined,
      variable: "ETCDCTL_ENDPOINTS",
    });
  });

  test("variables of the AWS SDK fill region, endpoint and CA, the special before the general", () => {
    const { config } = load(onS3, {
      AWS_REGION: "eu-central-1",
      AWS_DEFAULT_REGION: "us-west-2",
      AWS_ENDPOINT_URL: "https://aws.example.org",
      AWS_ENDPOINT_URL_S3: "https://s3.example.org",
      AWS_CA_BUNDLE: "/etc/ssl/s3-ca.pem",
      AWS_ACCESS_KEY_ID: "canary",
    });
    expect(config.repository.store).toMatchObject({
      region: "eu-central-1",
      endpoint: "https://s3.example.org",
      ca: "/etc/ssl/s3-ca.pem",
    });
  });
});

describe("warnings", () => {
  test("backups without encryption are told once", () => {
    expect(load(minimal).warnings.map(({ about }) => about)).toStrictEqual(["repository.encryption", "schedules"]);
  });

  test("an unencrypted connection to another host is told, one on loopback is not", () => {
    const { warnings } = load(minimal.replace("127.0.0.1", "10.0.0.1"));
    expect(warnings[0]).toMatchObject({
      about: "cluster.endpoints",
      message: expect.stringContaining("http://10.0.0.1:2379") as string,
    });
  });

  test("TLS without a CA of etcd's is told", () => {
    expect(load(minimal.replace("http:", "https:")).warnings[0]).toMatchObject({ about: "cluster.tls.ca" });
  });
});

/** Runs with the rights of an ordinary user, since root may read everything; only tests that run as root need the change. */
function asNobody<T>(action: () => T): T {
  if (process.getuid?.() !== 0) return action();
  process.seteuid?.(65_534);
  try {
    return action();
  } finally {
    process.seteuid?.(0);
  }
}
