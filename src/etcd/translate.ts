import { status } from "@grpc/grpc-js";
import { Fault } from "../faults.ts";
import type { FaultCode } from "../faults.ts";
import { ConnectTimeout } from "./channel.ts";
import type { TlsPaths } from "./tls-files.ts";

/** What a failed call was about, for messages and hints. */
export interface Asked {
  /** The member's name, or its URL. */
  readonly name: string;
  readonly url: string;
  /** `Status`, `Snapshot`, … */
  readonly call: string;
  readonly tls: TlsPaths;
  /** Who we are to etcd: the configured user, or the CN of the client certificate. */
  readonly user: string | undefined;
  /** End of the client certificate's validity. */
  readonly validTo?: string | undefined;
}

interface Row {
  readonly text?: RegExp;
  readonly codes?: readonly status[];
  /** Only for this call. */
  readonly call?: string;
  readonly code: FaultCode;
  readonly message: (asked: Asked, details: string) => string;
  readonly hint?: (asked: Asked) => string;
}

/** What the member's own words say; the first row that fits decides. Texts differ by minor, so they are matched before codes. */
const rows: readonly Row[] = [
  {
    text: /user name is empty/,
    code: "etcd-auth",
    message: (asked) =>
      asked.user === undefined
        ? `${who(asked)} has authentication on, but no user is configured`
        : `${who(asked)} has authentication on and did not see the user ${asked.user}`,
    hint: () => "set cluster.auth, or a client certificate whose CN is a user with the root role",
  },
  {
    text: /invalid user ID or password/,
    code: "etcd-auth",
    message: (asked) => `${who(asked)} refuses the user ${asked.user ?? ""} or its password`,
    hint: () => "check cluster.auth.username and cluster.auth.password",
  },
  {
    text: /user (name )?not found/,
    code: "etcd-auth",
    message: (asked) => `${who(asked)} knows no user ${asked.user ?? ""}`.trimEnd(),
    hint: () =>
      "the CN of a client certificate is taken as the user: add that user with the root role, or set cluster.auth",
  },
  {
    text: /invalid auth token|auth store is old|revision in header is old/,
    code: "etcd-auth",
    message: (asked) => `${who(asked)} refuses a token that was just issued`,
    hint: () => "the member may lag behind, or its auth settings are changing: try again",
  },
  {
    text: /HTTP status code/,
    code: "etcd-not-etcd",
    message: (asked, details) => `${who(asked)} is no etcd: ${details}`,
  },
  {
    text: /permission denied/,
    code: "etcd-auth",
    message: (asked) =>
      asked.user === undefined
        ? `${who(asked)} denies ${asked.call}: no user with the root role is configured`
        : `${who(asked)} denies ${asked.call}: the user ${asked.user} lacks the root role`,
    hint: (asked) => `run: etcdctl user grant-role ${asked.user ?? "NAME"} root`,
  },
  {
    text: /required revision has been compacted/,
    code: "etcd-compacted",
    message: (asked) => `${who(asked)} has compacted the revision that ${asked.call} asked for`,
  },
  {
    text: /rpc not supported for learner/,
    code: "etcd-unsupported",
    message: (asked) => `${who(asked)} is a learner and does not answer ${asked.call}`,
  },
  {
    text: /etcdserver: (request timed out|no leader|leader changed)|raft: stopped/,
    code: "etcd-timeout",
    message: (asked, details) => `${who(asked)} could not answer ${asked.call}: ${details}`,
    hint: (asked) =>
      asked.call === "Authenticate"
        ? "etcd checks a password by consensus; without a majority a client certificate whose CN is the user still works, in place of cluster.auth"
        : "without a majority of voters that see each other, etcd answers no such call",
  },
  {
    // As UNAVAILABLE: etcd's own check before a change of members (server.go, strict reconfig check).
    text: /etcdserver: (unhealthy cluster|re-configuration failed)/,
    code: "etcd-refused",
    message: (asked, details) => `${who(asked)} lets no member come or go now: ${details}`,
    hint: () => "every other member must have started and be connected for some seconds",
  },
  {
    text: /larger than max/,
    call: "Snapshot",
    code: "snapshot-broken",
    message: (asked, details) => `${who(asked)} sends a snapshot message that etcd would not send: ${details}`,
  },
  {
    text: /larger than max|message parsing error/,
    code: "etcd-not-etcd",
    message: (asked, details) => `${who(asked)} gives an answer to ${asked.call} that etcd would not give: ${details}`,
  },
  {
    codes: [status.UNIMPLEMENTED],
    code: "etcd-not-etcd",
    message: (asked, details) => `${who(asked)} speaks gRPC, but is no etcd: ${details}`,
  },
  {
    text: /waiting for/i,
    codes: [status.DEADLINE_EXCEEDED],
    code: "etcd-unreachable",
    message: (asked) => `${who(asked)} cannot be reached: no connection in time`,
  },
  {
    codes: [status.DEADLINE_EXCEEDED],
    code: "etcd-timeout",
    message: (asked) => `${who(asked)} did not answer ${asked.call} in time`,
  },
  {
    codes: [status.UNAVAILABLE],
    code: "etcd-unreachable",
    message: (asked, details) => `${who(asked)} cannot be reached: ${reason(details)}`,
  },
];

/** What the TLS library or the other side's alert says; used for gRPC's last error and for the probe's. */
const tlsRows: readonly Row[] = [
  {
    text: /altnames|ALTNAME_INVALID/i,
    code: "etcd-tls",
    message: (asked, details) =>
      `the certificate of ${who(asked)} does not fit its address: ${(/altnames: (.*)/.exec(reason(details))?.[1] ?? reason(details)).replace(/[:\s]+$/, "")}`,
    hint: () => "set cluster.members.NAME.serverName to a name in the certificate, or use an address that it names",
  },
  {
    text: /certificate has expired/i,
    code: "etcd-tls",
    message: (asked) => `the server certificate of ${who(asked)} has expired`,
    hint: () => "renew the member's server certificate, or mend the clock of this host",
  },
  {
    text: /not yet valid/i,
    code: "etcd-tls",
    message: (asked) => `the server certificate of ${who(asked)} is not valid yet`,
    hint: () => "mend the clock of this host or of the one that issued the certificate",
  },
  {
    text: /self.signed certificate|unable to verify|unable to get (local )?issuer|UNABLE_TO_|SELF_SIGNED/i,
    code: "etcd-tls",
    message: (asked) => `the server certificate of ${who(asked)} is not signed by a CA that is trusted here`,
    hint: (asked) =>
      asked.tls.ca === undefined
        ? "set cluster.tls.ca to the CA that signs etcd's server certificates"
        : `cluster.tls.ca (${asked.tls.ca}) must hold the CA that signs etcd's server certificates`,
  },
  {
    text: /alert (certificate required|bad certificate|certificate expired|unknown ca|certificate unknown|certificate revoked|handshake failure|unsupported certificate|access denied)/i,
    code: "etcd-tls",
    message: clientCertificateRefused,
    hint: (asked) =>
      asked.tls.cert === undefined
        ? "set cluster.tls.cert and cluster.tls.key"
        : (expiredClient(asked)?.hint ??
          `cluster.tls.cert (${asked.tls.cert}) must be valid and signed by the CA of etcd's --trusted-ca-file`),
  },
  {
    text: /alert |unsupported protocol|no shared cipher|SSL routines:(?!.*wrong version)/i,
    code: "etcd-tls",
    message: (asked, details) => `the TLS handshake with ${who(asked)} fails: ${reason(details)}`,
  },
];

function clientCertificateRefused(asked: Asked, details: string): string {
  if (asked.tls.cert === undefined) return `${who(asked)} asks for a client certificate, and none is configured`;
  const alert = /alert ([a-z ]+)/i.exec(details)?.[1] ?? "refused";
  return expiredClient(asked)?.message ?? `${who(asked)} refuses the client certificate ${asked.tls.cert}: ${alert}`;
}

/** The fault of a client certificate whose time is over; undefined for one that is valid, or none. */
export function expiredClient(asked: Asked): Fault | undefined {
  if (asked.validTo === undefined || Date.parse(asked.validTo) >= Date.now()) return undefined;
  return new Fault("etcd-tls", `the client certificate ${asked.tls.cert} expired on ${asked.validTo}`, {
    hint: "renew cluster.tls.cert and cluster.tls.key, or mend the clock of this host",
  });
}

/** The fault that an error of grpc-js, of a socket or of the TLS library stands for. A Fault stays as it is. */
export function translate(error: unknown, asked: Asked): Fault {
  if (error instanceof Fault) return error;
  const details = detailsOf(error);
  const code = codeOf(error);
  const connecting = code === undefined || code === status.UNAVAILABLE;
  const row =
    (connecting ? tlsRows : []).find((candidate) => candidate.text?.test(details)) ??
    rows.find(
      (candidate) =>
        (candidate.text?.test(details) ?? true) &&
        (candidate.codes?.some((each) => each === code) ?? true) &&
        (candidate.call ?? asked.call) === asked.call,
    );
  const fitting = row ?? (code === undefined ? unreachable : refused);
  return new Fault(fitting.code, fitting.message(asked, details), { hint: fitting.hint?.(asked), cause: error });
}

const unreachable: Row = {
  code: "etcd-unreachable",
  message: (asked, details) => `${who(asked)} cannot be reached: ${reason(details)}`,
};

const refused: Row = {
  code: "etcd-refused",
  message: (asked, details) => `${who(asked)} answered ${asked.call} with an error: ${details}`,
};

/** True when the text of an error does not tell what is wrong, so that another look at the endpoint is worth its time. */
export function isVague(error: unknown): boolean {
  if (error instanceof ConnectTimeout) return true;
  return /Protocol error|Failed to connect|before secure TLS|wrong version number|ECONNRESET|EPIPE|socket hang up|Socket closed|Connection closed|HTTP status code|unknown (service|method)|Waiting for LB pick|RST_STREAM/i.test(
    detailsOf(error),
  );
}

/** True for every spelling of "this token is not (or no longer) good" from etcd 3.2 to 3.7, and for a token that is missing. */
export function isTokenTrouble(error: unknown): boolean {
  return /invalid auth token|auth store is old|revision in header is old|user name is empty/.test(detailsOf(error));
}

/** How a member is named in messages: its name and URL, or the URL alone. */
export function who(asked: Pick<Asked, "name" | "url">): string {
  return asked.name === asked.url ? asked.url : `${asked.name} (${asked.url})`;
}

function detailsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const details = "details" in error && typeof error.details === "string" ? error.details : error.message;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return details.includes(code) ? details : `${code} ${details}`;
}

function codeOf(error: unknown): status | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}

/** grpc-js's words around the reason, OpenSSL's source positions and times taken away. */
function reason(details: string): string {
  const found = /Last error: (?:Error(?: \[\w+\])?: )?(.*?)(?:\. Resolution note: .*)?$/s.exec(details)?.[1] ?? details;
  const ssl = /SSL routines:[^:]*:([^:]*):/.exec(found)?.[1];
  return (ssl ?? found)
    .replace(/\s*\(\d{4}-\d\d-\d\dT[^)]*\)/, "")
    .replace(/\s+/g, " ")
    .trim();
}
