import { z } from "zod";
import { readServiceUrl } from "./address.ts";
import { converted, duration, path } from "./fields.ts";
import { quote } from "./quote.ts";

/** The sections of restore and upgrade: the hosts of the cluster with what runs there, hooks, and where operations leave their journals. */

const argument = z
  .string()
  .max(4096)
  .regex(/^[^\0]*$/, "holds a NUL character");

const argv = z
  .tuple(
    [argument.regex(/^\//, "is no absolute path: name the program with all of it")],
    argument,
    "must be a list: the program's absolute path, then each argument by itself; no shell reads it",
  )
  .refine((words) => words.length <= 256, "has more than 256 arguments");

const systemdUnit = z
  .string()
  .regex(/^[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\@-]{0,240}\.service$/, "is no name of a service unit, such as etcd.service")
  .describe("Name of a systemd unit. Example: etcd.service");

const staticPod = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, "is no name of a static pod, such as kube-apiserver")
  .describe("Name of a static pod: its manifest is NAME.yaml in the host's manifests. Example: kube-apiserver");

const command = z
  .strictObject({
    start: argv.describe("Starts it and returns. Example: [/opt/bin/api, start]"),
    stop: argv.describe(
      "Stops it; returns when it was told to, or when it is gone. Must do nothing where it does not run.",
    ),
    probe: argv.describe("Exits with 0 while it runs and with 3 while it does not, as an LSB init script's status."),
    disable: argv
      .optional()
      .describe(
        "Makes that nothing starts it, a reboot neither. Without it and enable, a reboot amid a restore may start it.",
      ),
    enable: argv.optional().describe("Takes back what disable did."),
    enabled: argv
      .optional()
      .describe(
        "Exits with 0 where a boot starts it and with 1 or 3 where none does. Without it, it is enabled after a restore also where it was not before.",
      ),
    join: argv
      .optional()
      .describe(
        "Of etcd, for restore-member: as start, with ETCD_INITIAL_CLUSTER and ETCD_INITIAL_CLUSTER_STATE=existing in its environment.",
      ),
    timeout: duration(1000, 3_600_000)
      .prefault("90s")
      .describe("A command that runs longer is killed with all that it started."),
  })
  .transform(({ timeout, ...others }) => ({ ...others, timeoutMs: timeout }))
  .describe("Commands of its own; each is a list of program and arguments, run as root on the host.");

const oneWayOnly = "must name exactly one of systemd, staticPod and command";

const ways = { systemd: systemdUnit.optional(), staticPod: staticPod.optional(), command: command.optional() };

interface Ways {
  readonly systemd?: string | undefined;
  readonly staticPod?: string | undefined;
  readonly command?: z.output<typeof command> | undefined;
}

/** How a service is run. */
export type ServiceWay =
  | { readonly kind: "systemd"; readonly unit: string }
  | { readonly kind: "static-pod"; readonly pod: string }
  | ({ readonly kind: "command" } & z.output<typeof command>);

function wayOf({ systemd, staticPod: pod, command: commands }: Ways): ServiceWay | undefined {
  const found: ServiceWay[] = [
    ...(systemd === undefined ? [] : [{ kind: "systemd", unit: systemd } as const]),
    ...(pod === undefined ? [] : [{ kind: "static-pod", pod } as const]),
    ...(commands === undefined ? [] : [{ kind: "command", ...commands } as const]),
  ];
  return found.length === 1 ? found[0] : undefined;
}

const etcd = z
  .strictObject({
    member: z
      .string()
      .regex(/^(?!__proto__$)[!-~]{1,253}$/, "is no name of a member: visible ASCII characters, at most 253")
      .describe("The member that this host runs, as `etcdctl member list` names it. Example: cp1"),
    service: z
      .strictObject(ways)
      .transform((given, context) => {
        const way = wayOf(given);
        if (way !== undefined) return way;
        context.issues.push({ code: "custom", message: oneWayOnly, input: given });
        return z.NEVER;
      })
      .describe("How etcd is run: exactly one of systemd, staticPod and command."),
    dataDirectory: path.describe(
      "etcd's data directory as the host sees it, which holds member/; of a static pod the volume's hostPath. Example: /var/lib/etcd",
    ),
    walDirectory: path
      .optional()
      .describe("etcd's WAL directory, only where --wal-dir or ETCD_WAL_DIR sets one. Example: /opt/etcd/wal"),
    peerUrls: z
      .array(
        z
          .string()
          .max(300)
          .regex(/^https?:\/\/[^\s,=/?#@]+:\d{1,5}$/, "is no URL such as https://10.0.1.1:2380"),
      )
      .min(1)
      .optional()
      .describe(
        "Its --initial-advertise-peer-urls to the letter, for a restore while no member answers: of a cluster that does not run yet (--as-new), or whose machines have other addresses than in the backup. Example: [https://10.0.1.1:2380]",
      ),
    environmentFile: path
      .optional()
      .describe(
        "The file with etcd's ETCD_ variables, where it has one: restore-member writes there how to join. Example: /etc/default/etcd",
      ),
  })
  .describe("The etcd member of this host.");

const service = z
  .strictObject({
    name: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 of a-z, 0-9 and -")
      .describe("Name of the service in plans and messages. Example: kube-apiserver"),
    role: z
      .enum(["api-server", "controller", "client"])
      .describe("controllers are stopped first, then API servers, then other clients of etcd; started in reverse."),
    ...ways,
    ready: converted("a URL", { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://" }, readServiceUrl)
      .optional()
      .describe("URL that answers 200 when it is ready. Example: https://10.0.0.11:6443/readyz"),
    read: converted("a URL", { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://" }, readServiceUrl)
      .optional()
      .describe(
        "URL that answers 200 with something that it has read from etcd, asked once it is ready. Example: https://10.0.0.11:6443/api/v1/namespaces/kube-system",
      ),
    readyCa: path
      .optional()
      .describe("PEM file here with the CAs of these URLs' certificate. Default: the system's CAs."),
    readyCert: path
      .optional()
      .describe(
        "PEM file here with the client certificate for these URLs. Example: /etc/kubernetes/pki/apiserver-kubelet-client.crt",
      ),
    readyKey: path.optional().describe("PEM file here with its private key."),
  })
  .refine(({ readyCert, readyKey }) => (readyCert === undefined) === (readyKey === undefined), {
    path: ["readyKey"],
    message: "readyCert and readyKey go together: give both or none",
  })
  .transform(({ systemd, staticPod: pod, command: commands, ...others }, context) => {
    const way = wayOf({ systemd, staticPod: pod, command: commands });
    if (way !== undefined) return { ...others, way };
    context.issues.push({ code: "custom", message: oneWayOnly, input: others });
    return z.NEVER;
  });

const host = z.strictObject({
  reach: converted(
    "local (hosts behind ssh are not in this version of etcd-lifeboat)",
    { pattern: "^local$" },
    (text) => (text === "local" ? { value: text } : { why: `${quote(text)} is not local` }),
  ).describe("How the host is reached: local is the machine that the command runs on."),
  manifests: path
    .prefault("/etc/kubernetes/manifests")
    .describe("The directory that the kubelet watches for static pods."),
  stateDirectory: path
    .prefault("/var/lib/etcd-lifeboat")
    .describe("Directory of ours on the host, outside of etcd's own: what is held there, and a copy of the journals."),
  etcd: etcd.optional(),
  services: z
    .array(service.describe("A service of the control plane, or another client of etcd."))
    .max(64)
    .prefault([])
    .describe("What runs on the host beside etcd and is stopped before it, in this order; started in reverse."),
});

/** A host as configured: how it is reached, and what runs on it. */
export type Host = z.output<typeof host>;

/** The hosts of the cluster by name. */
export const hosts = z
  .record(
    z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, "is no name of a host: 1 to 63 of a-z, 0-9, . and -"),
    host.describe("A host of the cluster, with etcd, parts of the control plane, or both."),
  )
  .prefault({})
  .describe(
    "The hosts of the cluster, where restore and upgrade run; run watches the disks of the local ones. The name stands in plans and messages.",
  );

const hook = z
  .strictObject({
    run: argv.describe(
      "Program and arguments; facts come as JSON on stdin. Exit 0: go on, 62: go on with a warning, 63: stop.",
    ),
    timeout: duration(1000, 86_400_000)
      .prefault("60s")
      .describe("A hook that runs longer is killed with all that it started, and has failed."),
  })
  .transform(({ run, timeout }) => ({ argv: run, timeoutMs: timeout }))
  .optional();

const hookOf = (when: string): typeof hook => hook.describe(when);

/** Programs of the site that are told of the phases of a restore or an upgrade. */
export const hooks = z
  .strictObject({
    "before-stop-api-servers": hookOf("Run before anything is stopped."),
    "after-stop-api-servers": hookOf("Run when controllers, API servers and other clients are stopped."),
    "before-stop-etcd": hookOf("Run when nobody talks to etcd any more."),
    "after-stop-etcd": hookOf("Run when every member is stopped."),
    "before-start-etcd": hookOf("Run when the new data is in place."),
    "after-start-etcd": hookOf("Run when the new members serve and are verified."),
    "before-start-api-servers": hookOf("Run before the first API server is started."),
    "after-start-api-servers": hookOf("Run when everything is started."),
    "on-failure": hookOf("Run when an operation stops amid changes; its exit status changes nothing."),
  })
  .prefault({})
  .describe("Programs of your own that are run on this machine between the phases of a restore or an upgrade.");

/** Where operations leave their journals. */
export const operations = z
  .strictObject({
    directory: path
      .prefault("/var/lib/etcd-lifeboat/operations")
      .describe(
        "Directory of ours for the journals of operations; what resume and rollback need is there. Hosts and store hold copies.",
      ),
  })
  .prefault({})
  .describe("Restores and upgrades.");
