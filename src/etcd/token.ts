import { Metadata } from "@grpc/grpc-js";
import type { Client, ServiceError } from "@grpc/grpc-js";
import { Host } from "etcd3/lib/connection-pool.js";
import { abortFault, throwIfAborted } from "../faults.ts";
import { parseAddress } from "./address.ts";
import { channelOptions } from "./channel.ts";
import { credentialsFor } from "./credentials.ts";
import type { TlsFiles } from "./tls-files.ts";

export interface Login {
  readonly username: string;
  /** Read at every request for a token, so that a changed password is picked up. */
  readonly password: () => Promise<string>;
}

/**
 * Asks one member for a token, by etcd3's Auth service on a connection of its own; undefined when authentication is off,
 * as etcd's own client does. One attempt: etcd3's retries, circuit breaker and token cache are not used.
 */
export async function requestToken(
  url: string,
  login: Login,
  tls: TlsFiles,
  serverName: string | undefined,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const password = await login.password();
  throwIfAborted(signal);
  const address = parseAddress(url);
  const host = new Host(address.authority, credentialsFor(address, tls, serverName, timeoutMs), channelOptions);
  try {
    const auth = host.getServiceClient("Auth") as AuthClient;
    return await new Promise<string | undefined>((resolve, reject) => {
      const question = { name: login.username, password };
      const aborted = (): void => {
        call.cancel();
        reject(abortFault(signal));
      };
      const call = auth.authenticate(
        question,
        new Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          signal.removeEventListener("abort", aborted);
          if (error === null) resolve(answer?.token);
          else if (error.details.includes("authentication is not enabled")) resolve(undefined);
          else reject(error);
        },
      );
      signal.addEventListener("abort", aborted, { once: true });
    });
  } finally {
    host.close();
  }
}

/** Whether a member has authentication on, as it says to a user that there is not: the only way to ask that every minor knows. */
export async function authIsOn(
  url: string,
  tls: TlsFiles,
  serverName: string | undefined,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const nobody: Login = { username: "etcd-lifeboat/nobody", password: async () => await Promise.resolve("none") };
  try {
    return (await requestToken(url, nobody, tls, serverName, timeoutMs, signal)) !== undefined;
  } catch (error) {
    if (error instanceof Error && error.message.includes("invalid user ID or password")) return true;
    throw error;
  }
}

/** The part of etcd3's generated client that is used: its types stop at `Client`. */
interface AuthClient extends Client {
  authenticate(
    question: { name: string; password: string },
    metadata: Metadata,
    options: { deadline: number },
    done: (error: ServiceError | null, answer?: { token: string }) => void,
  ): { cancel(): void };
}
