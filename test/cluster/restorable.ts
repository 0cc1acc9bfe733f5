import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ServiceAction, ServiceFile } from "../standins/service.ts";
import { startCluster, type ClusterOptions, type TestCluster } from "./harness.ts";
import { reservePorts } from "./ports.ts";
import { runProgram } from "./processes.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";

/**
 * A cluster whose members and API servers are run by commands of their hosts, each host a directory of this machine, and the site from which it is restored.
 */
export interface Restorable extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly site: Site;
  /** Runs a command of a service by hand: `etcd1`, `api1`. */
  readonly command: (service: string, action: ServiceAction) => Promise<void>;
  /** Whether it runs, by its own probe. */
  readonly runs: (service: string) => Promise<boolean>;
  readonly directoryOf: (service: string) => string;
  /** Puts something between clients and the first member that is stopped and started as an API server is; gives its `host:port`. */
  readonly openGateway: () => Promise<string>;
}

export interface RestorableOptions extends ClusterOptions {
  /** One stand-in of an API server per host. */
  readonly apiServers?: boolean;
}

const standins = fileURLToPath(new URL("../standins", import.meta.url));
const serviceProgram = join(standins, "service.ts");

/** The commands of a service in its directory, as a configuration names them. */
function commandsOf(directory: string): {
  start: [string, ...string[]];
  stop: [string, ...string[]];
  probe: [string, ...string[]];
  disable: [string, ...string[]];
  enable: [string, ...string[]];
  enabled: [string, ...string[]];
} {
  const command = (action: string): [string, ...string[]] => [process.execPath, serviceProgram, action, directory];
  return {
    start: command("start"),
    stop: command("stop"),
    probe: command("probe"),
    disable: command("disable"),
    enable: command("enable"),
    enabled: command("enabled"),
  };
}

export async function openRestorable(options: RestorableOptions): Promise<Restorable> {
  const cluster = await startCluster(options);
  const { tls } = cluster;
  const site = await openSite({
    cluster: {
      name: "prod",
      endpoints: [...cluster.endpoints],
      ...(tls && { tls: { ca: tls.ca, cert: tls.root.cert, key: tls.root.key } }),
    },
    signed: true,
  });
  const directoryOf = (service: string): string => join(site.directory, "services", service);
  const known: string[] = [];
  const define = async (service: string, file: ServiceFile): Promise<void> => {
    await mkdir(directoryOf(service), { recursive: true });
    await writeFile(join(directoryOf(service), "service.json"), JSON.stringify(file));
    known.push(service);
  };
  const command: Restorable["command"] = async (service, action) => {
    await runProgram(process.execPath, [serviceProgram, action, directoryOf(service)]);
  };
  const ports = options.apiServers === true ? await reservePorts(cluster.members.length) : [];
  const hosts: NonNullable<ConfigInput["hosts"]> = {};
  for (const [index, member] of cluster.members.entries()) {
    await define(member.name, { argv: member.argv, supervised: true });
    const number = index + 1;
    const port = ports[index];
    const services: NonNullable<NonNullable<ConfigInput["hosts"]>[string]["services"]> = [];
    if (port !== undefined) {
      const credentials = tls === undefined ? [] : [tls.ca, tls.root.cert, tls.root.key];
      const program = join(standins, "api-server.ts");
      await define(`api${number}`, {
        argv: [process.execPath, program, `api${number}`, String(port), cluster.endpoints.join(","), ...credentials],
        supervised: true,
      });
      services.push({
        name: "kube-apiserver",
        role: "api-server",
        command: commandsOf(directoryOf(`api${number}`)),
        ready: `http://127.0.0.1:${port}/readyz`,
      });
    }
    hosts[`h${number}`] = {
      reach: "local",
      stateDirectory: join(site.directory, `state${number}`),
      etcd: {
        member: member.name,
        service: {
          command: {
            ...commandsOf(directoryOf(member.name)),
            join: [process.execPath, serviceProgram, "join", directoryOf(member.name)],
          },
        },
        dataDirectory: member.dataDirectory,
      },
      services,
    };
  }
  site.config.hosts = hosts;
  site.config.operations = { directory: join(site.directory, "operations") };
  // From here on the hosts run them, not the test.
  await Promise.all(cluster.members.map((member) => member.stop()));
  await Promise.all(cluster.members.map(({ name }) => command(name, "start")));
  await cluster.put("lifeboat/ready", "yes");
  await Promise.all(ports.map((_, index) => command(`api${index + 1}`, "start")));
  const restorable: Restorable = {
    cluster,
    site,
    command,
    directoryOf,
    async openGateway() {
      const [port = 0] = await reservePorts(1);
      const target = new URL(cluster.members[0]?.clientUrl ?? "").host;
      await define("gateway", {
        argv: [process.execPath, join(standins, "gateway.ts"), String(port), target],
        supervised: true,
      });
      site.config.hosts?.["h1"]?.services?.push({
        name: "gateway",
        role: "api-server",
        command: commandsOf(directoryOf("gateway")),
      });
      await command("gateway", "start");
      return `127.0.0.1:${port}`;
    },
    runs: async (service) => {
      const probe = await runProgram(process.execPath, [serviceProgram, "probe", directoryOf(service)]).then(
        () => true,
        () => false,
      );
      return probe;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(known.map((service) => command(service, "disable")));
      await Promise.all(known.map((service) => command(service, "stop")));
      await site[Symbol.asyncDispose]();
      await cluster[Symbol.asyncDispose]();
    },
  };
  return restorable;
}
