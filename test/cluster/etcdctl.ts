import { runProgram } from "./processes.ts";
import { etcdProgram } from "./servers.ts";
import type { Minor } from "./servers.ts";

/** How to reach a cluster as a client. */
export interface Access {
  readonly endpoints: readonly string[];
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string } | undefined;
  readonly auth?: { readonly username: string; readonly password: string } | undefined;
}

/** Runs a minor's etcdctl and gives its standard output; what the arguments or `env` say goes before the access. */
export async function runEtcdctl(
  minor: Minor,
  { endpoints, tls, auth }: Access,
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly env?: Record<string, string> } = {},
): Promise<string> {
  const env: Record<string, string> = {
    // Later ones know no other and warn about it.
    ...(minor === "3.3" && { ETCDCTL_API: "3" }),
    ETCDCTL_ENDPOINTS: endpoints.join(","),
    // More than the two and five seconds that it has by itself, which a busy machine can need.
    ETCDCTL_DIAL_TIMEOUT: "10s",
    ETCDCTL_COMMAND_TIMEOUT: "20s",
    ...(tls && { ETCDCTL_CACERT: tls.ca, ETCDCTL_CERT: tls.cert, ETCDCTL_KEY: tls.key }),
    ...(auth && { ETCDCTL_USER: `${auth.username}:${auth.password}` }),
    ...options.env,
  };
  // etcdctl refuses a flag whose variable is set too.
  for (const arg of args) {
    const flag = /^--([a-z-]+)/.exec(arg)?.[1];
    if (flag !== undefined) delete env[`ETCDCTL_${flag.toUpperCase().replaceAll("-", "_")}`];
  }
  return await runProgram(etcdProgram(minor, "etcdctl"), args, { ...options, env });
}
