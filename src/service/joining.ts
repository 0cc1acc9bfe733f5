import { Fault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import type { Joining } from "./service.ts";

/** How etcd is told to join where its settings come from the environment. */

export const joinVariables = (initialCluster: string): Readonly<Record<string, string>> => ({
  ETCD_INITIAL_CLUSTER: initialCluster,
  ETCD_INITIAL_CLUSTER_STATE: "existing",
});

export interface EnvironmentFileOptions {
  readonly name: string;
  readonly path: string;
  /** Directory of ours on the host: the file as it was is kept there meanwhile. */
  readonly stateDirectory: string;
  /** Rejects with `service-unjoinable` where the file does not decide. */
  readonly check: (signal: AbortSignal) => Promise<void>;
  readonly start: (signal: AbortSignal) => Promise<void>;
}

const fileBytes = 2 ** 20;

/** By the file that etcd's environment is read from: the two variables are written into it, and it is what it was once the member has joined. */
export function joinByEnvironmentFile(host: Host, options: EnvironmentFileOptions): Joining {
  const { name, path, stateDirectory, check, start } = options;
  const keptAt = (operation: string): string => `${stateDirectory}/joining/${name}.${operation}`;
  const read = async (signal: AbortSignal): Promise<Uint8Array> => {
    const bytes = await host.readFile(path, fileBytes, signal);
    if (bytes !== undefined) return bytes;
    throw new Fault("service-unjoinable", `${host.name} has no file ${path}`, {
      hint: `correct hosts.${host.name}.etcd.environmentFile`,
    });
  };
  const write = async (bytes: Uint8Array, signal: AbortSignal): Promise<void> => {
    const facts = await host.stat(path, signal);
    const { mode, uid, gid } = facts ?? { mode: 0o644, uid: 0, gid: 0 };
    await host.writeFile(path, bytes, { mode: mode & 0o777, owner: { uid, gid } }, signal);
  };
  const takeBack = async (operation: string, signal: AbortSignal): Promise<void> => {
    const kept = await host.readFile(keptAt(operation), fileBytes, signal);
    if (kept === undefined) return;
    await write(kept, signal);
    await host.removeFile(keptAt(operation), signal);
  };
  return {
    async describe(signal) {
      await check(signal);
      await read(signal);
      return `ETCD_INITIAL_CLUSTER and ETCD_INITIAL_CLUSTER_STATE=existing stand in ${path} until it has joined`;
    },
    async prepare(operation, initialCluster, signal) {
      await check(signal);
      const bytes = (await host.readFile(keptAt(operation), fileBytes, signal)) ?? (await read(signal));
      await host.makeDirectory(`${stateDirectory}/joining`, { mode: 0o700 }, signal);
      // Kept first: it may hold passwords, and is nobody's to read.
      await host.writeFile(keptAt(operation), bytes, { mode: 0o600 }, signal);
      await write(new TextEncoder().encode(withVariables(new TextDecoder().decode(bytes), initialCluster)), signal);
    },
    start: async (_initialCluster, signal) => await start(signal),
    finish: takeBack,
    undo: takeBack,
  };
}

/** Whatever else stands in a name or an address would end the quotes, or be read as a command by a script that takes the file in. */
const plain = /^[\w.,:/=@%[\]-]*$/;

/** The file with the two variables set: in their places where they stand, at its end where they do not. */
function withVariables(text: string, initialCluster: string): string {
  if (!plain.test(initialCluster))
    throw new Fault(
      "service-unjoinable",
      `the members cannot be written into a file of variables: ${JSON.stringify(initialCluster.slice(0, 500))}`,
      {
        hint: "a name or a peer URL of a member has signs that neither should have: see etcdctl member list",
      },
    );
  const lines = text.replace(/\n$/, "").split("\n");
  for (const [variable, value] of Object.entries(joinVariables(initialCluster))) {
    const assigns = new RegExp(`^(\\s*(?:export\\s+)?)${variable}=`);
    const at = lines.findLastIndex((line) => assigns.test(line));
    const prefix = assigns.exec(lines[at] ?? "")?.[1] ?? "";
    const line = `${prefix}${variable}="${value}"`;
    if (at < 0) lines.push(line);
    else lines[at] = line;
  }
  return `${lines.join("\n")}\n`;
}
