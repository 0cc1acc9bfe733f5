import { z } from "zod";
import { readListenAddress, readServiceUrl } from "./address.ts";
import { parseCron } from "./cron.ts";
import {
  converted,
  duration,
  hostName,
  listenerUrl,
  path,
  pingUrl,
  readTimeZone,
  recipient,
  secret,
  size,
} from "./fields.ts";
import { hooks, hosts, operations } from "./hosts.ts";
import { quote } from "./quote.ts";
import { isFault } from "../faults.ts";

/** Sections that later versions bring; each is refused by name, so that nobody believes in a retention that does not run. */
export const laterSections: readonly string[] = ["archive", "drill", "upgrade"];

const tls = z
  .strictObject({
    ca: path
      .optional()
      .describe("PEM file with the CAs that signed the members' server certificates. Default: the system's CAs."),
    cert: path.optional().describe("PEM file with the client certificate; read again when it is replaced."),
    key: path.optional().describe("PEM file with the client certificate's key; read again when it is replaced."),
    serverName: hostName("a name in the server certificate")
      .optional()
      .describe("Name that every member's server certificate must carry, where it is not the host of its URL."),
  })
  .describe("TLS towards etcd. Files are read again when they are replaced.");

const auth = z
  .strictObject({
    username: z
      .string()
      .regex(/^[^:]{1,256}$/, "must be 1 to 256 characters without a colon; the password has a key of its own")
      .describe("User of etcd; taking a snapshot needs the role root. Example: root"),
    password: secret("Password of the user."),
  })
  .describe("User and password, where etcd has authentication on. A client certificate's CN needs no entry here.");

const memberOverride = z.strictObject({
  url: listenerUrl(2379)
    .optional()
    .describe("Client URL to use instead of the advertised one. Example: https://10.0.0.12:2379"),
  serverName: hostName("a name in the server certificate")
    .optional()
    .describe("Name that this member's server certificate must carry."),
  metricsUrl: listenerUrl(2381)
    .optional()
    .describe("Base URL of the metrics listener, where it is not the client URL. Example: http://10.0.0.12:2381"),
});

const cluster = z
  .strictObject({
    name: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 of a-z, 0-9 and -, not starting or ending with -")
      .describe(
        "Name of the cluster: the metric label, what repository.json must say, what dangerous commands ask to be typed. Example: prod",
      ),
    endpoints: z
      .array(listenerUrl(2379).describe("A client URL. Example: https://10.0.0.11:2379"))
      .min(1, "is empty; write at least one client URL of etcd")
      .max(64)
      .describe(
        "Client URLs of members, or one address in front of them: members are discovered and addressed one by one.",
      ),
    tls: tls.optional(),
    auth: auth.optional(),
    members: z
      .record(
        z
          .string()
          .regex(/^(?!__proto__$)[!-~]{1,253}$/, "is no name of a member: visible ASCII characters, at most 253"),
        memberOverride,
      )
      .prefault({})
      .describe("By member name, only what discovery cannot know."),
  })
  .describe("The etcd cluster to keep.");

const s3 = z
  .strictObject({
    bucket: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/, "is no name of a bucket (for a key inside of it there is prefix)")
      .describe("The bucket; it must exist. Example: etcd-backups"),
    prefix: z
      .string()
      .max(500)
      .regex(
        /^([A-Za-z0-9_-][A-Za-z0-9._-]{0,254}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})*)?$/,
        "must be segments of A-Z, a-z, 0-9, ., _ and - joined by single slashes, without a slash at either end",
      )
      .default("")
      .describe("Where in the bucket this cluster's repository lives. Example: prod"),
    region: z
      .string()
      .regex(/^[A-Za-z0-9-]{1,64}$/, "is no region")
      .optional()
      .describe(
        "The bucket's region. Default: AWS_REGION, AWS_DEFAULT_REGION, and with an endpoint us-east-1. Example: eu-central-1",
      ),
    endpoint: converted("a URL", { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://" }, readServiceUrl)
      .optional()
      .describe(
        "URL of a service that is not AWS. Default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else AWS. Example: https://s3.example.org",
      ),
    pathStyle: z
      .boolean()
      .default(false)
      .describe("Put the bucket into the path instead of the host name; most services that are not AWS want it."),
    ca: path
      .optional()
      .describe("PEM file with the CAs of the endpoint's certificate. Default: AWS_CA_BUNDLE, else the system's CAs."),
    credentials: z
      .strictObject({
        file: path.describe(
          "A file like ~/.aws/credentials (its section [default]) that only its owner may read; read again when it changes. Example: /etc/etcd-lifeboat/s3-credentials",
        ),
      })
      .optional()
      .describe(
        "Where the access key is found. Default: the AWS SDK's chain (AWS_ACCESS_KEY_ID, ~/.aws, instance role).",
      ),
    checksums: z
      .enum(["full", "none"])
      .default("full")
      .describe(
        "full: checksums with every upload. none: for old gateways that refuse them; stored bytes are then verified by reading back alone.",
      ),
  })
  .describe("An S3 bucket.");

const store = z
  .strictObject({
    s3: s3.optional(),
    directory: path
      .optional()
      .describe("A directory on another disk or a network file system; it must exist. Example: /var/backups/etcd"),
  })
  .meta({ oneOf: [{ required: ["s3"] }, { required: ["directory"] }] })
  .transform((given, context) => {
    if (given.s3 !== undefined && given.directory === undefined) {
      return { kind: "s3" as const, ...given.s3, region: given.s3.region ?? "us-east-1" };
    }
    if (given.directory !== undefined && given.s3 === undefined) {
      return { kind: "directory" as const, directory: given.directory };
    }
    context.issues.push({ code: "custom", message: oneStoreOnly, input: given });
    return z.NEVER;
  })
  .describe("Where the repository lives: exactly one of s3 and directory.");

/** Told when a store names none or both. */
export const oneStoreOnly = "must name exactly one of s3 and directory";

const copy = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,30}$/, "must be 1 to 31 of a-z, 0-9 and -, not starting with -")
    .describe("Name of the copy: the metric label, and what --store takes. Example: offsite"),
  store: store.describe("Where the copy lives: exactly one of s3 and directory."),
});

const repository = z
  .strictObject({
    store,
    copies: z
      .array(copy)
      .max(8)
      .prefault([])
      .describe("Further stores; each backup is copied there after its commit, whole and verified."),
    readBack: z
      .strictObject({
        below: size(0, 1024 ** 5)
          .optional()
          .describe(
            "Stored objects up to this size are read back in full; larger ones are verified by a CRC-32C over the whole object that the store confirms. Default: everything is read back. Example: 8GiB",
          ),
      })
      .transform(({ below }) => ({ belowBytes: below }))
      .prefault({})
      .describe("How stored bytes are verified before a backup counts."),
    compression: z
      .strictObject({
        level: z.int().min(1).max(19).default(1).describe("Level of zstd, 1 (fast) to 19 (small)."),
      })
      .prefault({})
      .describe("Compression of snapshots."),
    encryption: z
      .strictObject({
        recipients: z
          .array(recipient.describe("Public key as age-keygen prints it."))
          .min(1, "is empty; write at least one public key, as age-keygen prints it")
          .max(64)
          .describe(
            "Public keys (age1...), each of which can open every backup. Keep one identity in escrow, away from the cluster.",
          ),
        identity: secret(
          "Private key (an age identity file), only where restore, drill and deep verify run; the daemon needs none.",
        ).optional(),
      })
      .optional()
      .describe("Encryption with age. Without it, backups hold every Secret of Kubernetes in plain text."),
    signing: z
      .strictObject({
        key: secret(
          "Ed25519 private key (PKCS#8 PEM) that signs manifests. Made by: openssl genpkey -algorithm ed25519",
        ).optional(),
        trusted: z
          .array(path.describe("PEM file with an Ed25519 public key. Made by: openssl pkey -in KEY -pubout"))
          .max(64)
          .prefault([])
          .describe(
            "Files with the public keys (SPKI PEM) whose manifests are believed; where there is one, unsigned and foreign manifests are refused.",
          ),
      })
      .optional()
      .describe("Signatures of manifests."),
    coordination: z
      .strictObject({
        prefix: z
          .string()
          .regex(
            /^(?!(?:lineages|operations|repository\.json)(?:\/|$))[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}){0,3}$/,
            "must be 1 to 4 segments of A-Z, a-z, 0-9, ., _ and - joined by single slashes, and none of the repository's own names",
          )
          .default("coordination")
          .describe(
            "Where in the repository the operation lock and the claims live; the same for every daemon of a cluster.",
          ),
      })
      .prefault({})
      .describe("What several daemons and commands agree by."),
    extras: z
      .array(path.describe("A file or directory."))
      .max(256)
      .prefault([])
      .describe(
        "Absolute paths of files and directories that are stored with every backup, only with encryption. Example: /etc/kubernetes/pki",
      ),
  })
  .describe("Where and how backups are stored.");

const spool = z
  .strictObject({
    directory: path
      .prefault("/var/cache/etcd-lifeboat")
      .describe(
        "Directory of ours for the snapshot while it is worked on; needs room for one whole database. Best not on etcd's disk.",
      ),
    maxRate: size(1024 ** 2, 1024 ** 4)
      .optional()
      .describe(
        "Most bytes per second to take from etcd, whatever etcd's writers feel. Default: no limit. Example: 200MiB",
      ),
    pace: z
      .enum(["auto", "always", "never"])
      .default("never")
      .describe(
        "Slow down while etcd's writers feel it: never, auto where a member runs on this machine and shares its cores and disk, or always. Not below 32 MiB/s.",
      ),
  })
  .transform(({ directory, maxRate, pace }) => ({ directory, maxRateBytes: maxRate, pace }))
  .prefault({})
  .describe("The local file into which a snapshot is drained.");

const schedule = z
  .strictObject({
    name: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{0,30}$/, "must be 1 to 31 of a-z, 0-9 and -, not starting with -")
      .describe("Name of the schedule, part of its backups' names. Example: hourly"),
    cron: converted("a cron expression in quotes", {}, (expression) => {
      try {
        return { value: { text: expression.trim(), fields: parseCron(expression) } };
      } catch (error) {
        if (isFault(error, "config-invalid")) return { why: `${quote(expression)} ${error.message}` };
        throw error;
      }
    }).describe(
      'Cron expression of 5 fields, or 6 with seconds first; one of day-of-month and day-of-week must be *. Example: "0 * * * *"',
    ),
    timeZone: converted("a time zone", {}, readTimeZone)
      .prefault("UTC")
      .describe(
        "Time zone of the expression, as the IANA database names it. UTC has no hours that are skipped or repeated. Example: Europe/Berlin",
      ),
    jitter: duration(0, 86_400_000).prefault("0s").describe("Longest random delay after each slot. Example: 2m"),
  })
  .transform(({ name, cron, timeZone, jitter }) => ({
    name,
    cron: cron.text,
    fields: cron.fields,
    timeZone,
    jitterMs: jitter,
  }));

const proof = z
  .strictObject({
    allowLeader: z
      .boolean()
      .default(true)
      .describe(
        "Whether the leader may be asked to hash its data where the followers are not enough; every writer of the cluster waits meanwhile, some tenths of a second per GB.",
      ),
  })
  .prefault({})
  .describe("How backups are compared with the data of other members.");

const count = (what: string) => z.int().min(0).max(100_000).default(0).describe(what);

const retention = z
  .strictObject({
    last: count("Keep the newest so many of each schedule, and of those on demand. Example: 6"),
    hourly: count("Keep one for each of the last so many hours that have a backup (UTC). Example: 24"),
    daily: count("The same for days. Example: 7"),
    weekly: count("The same for weeks, from Monday. Example: 5"),
    monthly: count("The same for months. Example: 12"),
    yearly: count("The same for years."),
    within: duration(0, 100 * 366 * 86_400_000)
      .prefault("0s")
      .describe("Keep everything that was committed so long before the newest backup. Example: 48h"),
    maxBytes: size(0, 1024 ** 5)
      .optional()
      .describe(
        "Most bytes that backups may have in the store; minProven and pins go beyond it. Default: no limit. Example: 500GiB",
      ),
    minProven: z
      .int()
      .min(1)
      .max(1000)
      .default(3)
      .describe("So many of the newest proven backups are never removed, whatever the rest says."),
    expire: z
      .boolean()
      .default(false)
      .describe(
        "Whether run removes what is not kept, after a backup and at most once an hour; else only expire --yes does.",
      ),
  })
  .transform(({ within, ...others }) => ({ ...others, withinMs: within }))
  .optional()
  .describe("Which backups stay. Without this section nothing is ever removed.");

const http = z
  .strictObject({
    listen: converted("HOST:PORT, such as 127.0.0.1:9979", { pattern: ":[0-9]{1,5}$" }, readListenAddress)
      .prefault("127.0.0.1:9979")
      .describe(
        "Address and port of /metrics, /livez, /readyz and the status page; port 0 takes a free one. One that is not loopback needs tls, a token, or best both.",
      ),
    tls: z
      .strictObject({
        cert: path.describe("PEM file with the certificate and its chain. Example: /etc/etcd-lifeboat/http.crt"),
        key: secret("Key of the certificate (PEM, without passphrase), which only its owner may read."),
      })
      .optional()
      .describe("Serve the pages by TLS 1.2 or later. Read again with the configuration."),
    token: secret(
      "A bearer token that every request must carry, but those for /livez and /readyz. Made by: openssl rand -hex 32",
    ).optional(),
  })
  .prefault({})
  .describe("Metrics and health pages.");

const notify = z
  .strictObject({
    start: pingUrl("Called when a scheduled backup starts. Example: https://hc.example.org/x/start").optional(),
    success: pingUrl("Called after its commit. Example: https://hc.example.org/x").optional(),
    failure: pingUrl("Called when it fails. Example: https://hc.example.org/x/fail").optional(),
  })
  .prefault({})
  .describe(
    "A dead man's switch, which alarms when it hears nothing. {schedule} in an address becomes the schedule's name.",
  );

const log = z
  .strictObject({
    level: z.enum(["error", "warn", "info", "debug"]).default("info").describe("The least that is logged."),
    format: z
      .enum(["json", "text"])
      .default("json")
      .describe("One JSON object or one line of text per event, on stderr."),
  })
  .prefault({})
  .describe("The log of run.");

/** The whole configuration: its input is the YAML, its output the Config. Rules between values stand in rules.ts. */
export const configSchema = z
  .strictObject({
    cluster,
    repository,
    spool,
    schedules: z.array(schedule).max(32).prefault([]).describe("When backups are taken by run."),
    retention,
    proof,
    http,
    log,
    notify,
    hosts,
    hooks,
    operations,
  })
  .describe("Configuration of etcd-lifeboat.");

/** The parsed configuration: durations in milliseconds, sizes in bytes, secrets as references. Frozen by loadConfig. */
export type Config = z.output<typeof configSchema>;

/** A node of the JSON schema, as far as this folder reads it. */
export interface SchemaNode {
  readonly description?: string;
  readonly title?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | false;
  readonly items?: SchemaNode;
}

/** The configuration's JSON schema (draft 2020-12), for editors and for `config schema`. */
export function configJsonSchema(): SchemaNode & Readonly<Record<string, unknown>> {
  // zod types the result by JSON Schema's whole vocabulary; SchemaNode is the part that our own schema uses.
  return z.toJSONSchema(configSchema, { io: "input" }) as SchemaNode & Readonly<Record<string, unknown>>;
}
