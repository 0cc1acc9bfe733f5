import { connect } from "node:tls";
import { Fault, throwIfAborted } from "../faults.ts";
import { parseAddress } from "./address.ts";
import { get } from "./http.ts";
import type { Page } from "./http.ts";
import type { TlsFiles } from "./tls-files.ts";
import type { Asked } from "./translate.ts";
import { expiredClient, isVague, translate, who } from "./translate.ts";

const probeMs = 2000;
const probeBytes = 64 * 1024;

/**
 * The fault for a failed call. Where gRPC's words do not tell what is wrong, the endpoint is asked for /version over
 * HTTP, with the other scheme too: at most a few seconds.
 */
export async function explain(
  error: unknown,
  asked: Asked,
  tls: TlsFiles,
  serverName: string | undefined,
  signal: AbortSignal,
): Promise<Fault> {
  const plain = translate(error, asked);
  if (error instanceof Fault || !isVague(error)) return plain;
  const ask = { tls, serverName, timeoutMs: probeMs, maxBytes: probeBytes };
  const answer = await attempt(get(asked.url, "/version", ask, signal));
  throwIfAborted(signal);
  if (!(answer instanceof Error)) return judge(answer, plain, asked);

  const own = translate(answer, asked);
  if (own.code === "etcd-tls") return own;
  if (answer.message.startsWith("timeout")) {
    return new Fault("etcd-unreachable", `${who(asked)} accepts connections, but does not answer`, { cause: error });
  }
  const { secure, authority, host, port } = parseAddress(asked.url);
  // Some servers, and proxies before them, hang up on a certificate that they refuse and send no alert.
  const expired = secure ? expiredClient(asked) : undefined;
  if (expired !== undefined) return expired;
  if (secure) {
    const other = await attempt(get(`http://${authority}`, "/version", ask, signal));
    throwIfAborted(signal);
    if (!(other instanceof Error)) {
      return versionOf(other) === undefined
        ? notEtcd(asked, `it answers plain HTTP ${other.status}`, error)
        : new Fault("etcd-tls", `${who(asked)} speaks plain HTTP, not TLS`, { hint: "write http:// in the URL" });
    }
    return isGarbage(other) ? notEtcd(asked, "it answers with something that is neither TLS nor HTTP", error) : plain;
  }
  const spoken = await speaksTls(host, port, signal);
  throwIfAborted(signal);
  if (spoken) return needsTls(asked, error);
  return isGarbage(answer) ? notEtcd(asked, "it answers with something that is no HTTP", error) : plain;
}

function judge(page: Page, plain: Fault, asked: Asked): Fault {
  const version = versionOf(page);
  if (version?.startsWith("2.") === true) {
    return new Fault("etcd-unsupported", `${who(asked)} is etcd ${version}, which is not supported`, {
      hint: "upgrade the cluster to etcd 3",
      cause: plain,
    });
  }
  if (version !== undefined) {
    // An etcd that answers now: what failed was the moment, unless the other side spoke and it was not gRPC.
    const spoke = plain.code === "etcd-not-etcd" || /Protocol error|Failed to connect/.test(plain.message);
    return spoke ? notEtcd(asked, `etcd ${version} answers there, but not its clients: a peer port?`, plain) : plain;
  }
  if (page.status === 400 && page.body.includes("HTTPS server")) return needsTls(asked, plain);
  return notEtcd(asked, `it answers HTTP ${page.status} ${page.contentType}`.trimEnd(), plain);
}

function notEtcd(asked: Asked, why: string, cause: unknown): Fault {
  return new Fault("etcd-not-etcd", `${who(asked)} is no client port of an etcd: ${why}`, {
    hint: "use a URL of etcd's --advertise-client-urls",
    cause,
  });
}

function needsTls(asked: Asked, cause: unknown): Fault {
  return new Fault("etcd-tls", `${who(asked)} speaks TLS, not plain HTTP`, {
    hint: "write https:// in the URL",
    cause,
  });
}

function versionOf(page: Page): string | undefined {
  if (page.status !== 200) return undefined;
  return /"etcdserver"\s*:\s*"([\w.+-]{1,40})"/.exec(page.body)?.[1];
}

function isGarbage(error: Error): boolean {
  return "code" in error && typeof error.code === "string" && error.code.startsWith("HPE_");
}

async function speaksTls(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    // Not the socket's own timeout: that begins anew with every byte.
    const limit = AbortSignal.any([signal, AbortSignal.timeout(probeMs)]);
    const socket = connect({ host, port, rejectUnauthorized: false });
    const end = (answer: boolean) => () => {
      limit.removeEventListener("abort", give);
      socket.destroy();
      resolve(answer);
    };
    const give = end(false);
    limit.addEventListener("abort", give, { once: true });
    if (limit.aborted) give();
    socket.once("secureConnect", end(true));
    socket.once("close", give);
    // An alert is an answer in TLS too: the server asks for a certificate, or knows no such name.
    socket.on("error", (error: Error) => {
      end(/alert/.test(error.message))();
    });
  });
}

async function attempt<Value>(promise: Promise<Value>): Promise<Value | Error> {
  return promise.catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
}
