import { Fault, abortFault } from "../faults.ts";
import type { FaultCode } from "../faults.ts";

/** What S3's or the network's answer means for the one who asked. Names are matched first: status codes are shared by many. */
export type Meaning =
  /** 412: an object of that name exists. */
  | "taken"
  /** An object stands where this name needs a directory, or the other way round: gateways on a file system. */
  | "blocked"
  /** 409: somebody else is writing the same name right now; asking again is right. */
  | "conflict"
  | "no-object"
  | "no-upload"
  | "no-bucket"
  | "denied"
  /** The object is under a lock: it cannot be removed, and its name is taken. */
  | "locked"
  | "region"
  /** The store found other bytes than the checksum that came with them. */
  | "damaged"
  | "full"
  /** Overload, an internal error, no connection, a timeout: the request may or may not have been carried out. */
  | "unknown"
  /** Answered, and not for any reason above. */
  | "refused";

/** The parts of an SDK error that are used here. None is an instance of a class that could be asked for. */
interface Answer {
  readonly name: string;
  readonly message: string;
  readonly code: string;
  readonly status: number | undefined;
  readonly attempts: number;
  readonly region: string | undefined;
}

const meanings: Readonly<Record<string, Meaning>> = {
  PreconditionFailed: "taken",
  ExistingObjectIsDirectory: "blocked",
  ObjectParentIsFile: "blocked",
  ConditionalRequestConflict: "conflict",
  OperationAborted: "conflict",
  NoSuchKey: "no-object",
  NotFound: "no-object",
  NoSuchUpload: "no-upload",
  NoSuchBucket: "no-bucket",
  InvalidBucketName: "no-bucket",
  AccessDenied: "denied",
  AccountProblem: "denied",
  AllAccessDisabled: "denied",
  CredentialsProviderError: "denied",
  ExpiredToken: "denied",
  ExpiredTokenException: "denied",
  Forbidden: "denied",
  InvalidAccessKeyId: "denied",
  InvalidToken: "denied",
  RequestTimeTooSkewed: "denied",
  SignatureDoesNotMatch: "denied",
  UnauthorizedAccess: "denied",
  // versitygw's word for an access key that it does not know.
  XAdminUserNotFound: "denied",
  AuthorizationHeaderMalformed: "region",
  IllegalLocationConstraintException: "region",
  IncorrectEndpoint: "region",
  PermanentRedirect: "region",
  Redirect: "region",
  TemporaryRedirect: "region",
  BadDigest: "damaged",
  InvalidDigest: "damaged",
  XAmzContentChecksumMismatch: "damaged",
  XAmzContentSHA256Mismatch: "damaged",
  QuotaExceeded: "full",
  StorageFull: "full",
  XMinioStorageFull: "full",
  IncompleteBody: "unknown",
  InternalError: "unknown",
  RequestTimeout: "unknown",
  ServiceUnavailable: "unknown",
  SlowDown: "unknown",
  Throttling: "unknown",
  ThrottlingException: "unknown",
  TimeoutError: "unknown",
  TooManyRequests: "unknown",
};

const statusMeanings: Readonly<Record<number, Meaning>> = {
  301: "region",
  307: "region",
  401: "denied",
  403: "denied",
  404: "no-object",
  408: "unknown",
  412: "taken",
  429: "unknown",
  507: "full",
};

/** What an error that the SDK threw means. */
export function meaningOf(error: unknown): Meaning {
  if (error instanceof Fault) return error.code === "store-unreachable" ? "unknown" : "refused";
  const { name, status, code, message } = answerOf(error);
  // AWS and versitygw call it AccessDenied, as a missing right; only the text tells them apart.
  if (/protected by object lock|WORM protected/i.test(message)) return "locked";
  const byName = meanings[name] ?? meanings[code];
  if (byName !== undefined) return byName;
  if (status === undefined) return "unknown";
  // A 404 with another name is not about an object.
  if (status === 404 && !/^(Unknown|UnknownError|Error)$/.test(name)) return "refused";
  return statusMeanings[status] ?? (status >= 500 || status < 300 ? "unknown" : "refused");
}

/** The same for a create-only write: under a locked object there is no room for another one. */
export function writeMeaningOf(error: unknown): Meaning {
  const meaning = meaningOf(error);
  return meaning === "locked" ? "taken" : meaning;
}

/** How often the SDK sent the request before it gave up: a refusal of the second one may be due to the first one's success. */
export function attemptsOf(error: unknown): number {
  return answerOf(error).attempts;
}

/** True when the answer came without a body, so that its name says nothing (HEAD). */
export function isNameless(error: unknown): boolean {
  return (
    !(error instanceof Fault) && answerOf(error).status !== undefined && meanings[answerOf(error).name] === undefined
  );
}

/** The fault for an error of the SDK; `what` says what was tried ("read s3://bucket/name"), `bucket` and `endpoint` where. */
export function s3Fault(
  error: unknown,
  where: { readonly bucket: string; readonly endpoint: string | undefined },
  what: string,
  signal: AbortSignal,
): Fault {
  if (error instanceof Fault) return error;
  if (signal.aborted) return abortFault(signal);
  const answer = answerOf(error);
  const host = where.endpoint ?? "s3";
  const said = answer.code || answer.name;
  // A plain error of our own: the SDK's carries headers with credentials in them.
  const cause = new Error(
    `${said}: ${answer.message}${answer.status === undefined ? "" : ` (status ${answer.status})`}`,
  );
  const fault = (code: FaultCode, message: string, hint?: string): Fault => new Fault(code, message, { hint, cause });
  switch (meaningOf(error)) {
    case "taken":
      return fault("store-exists", `cannot ${what}: an object of that name exists already`);
    case "blocked":
      return fault(
        "store-exists",
        `cannot ${what}: another object is in the way, one name would be a directory of the other`,
      );
    case "no-object":
      return fault("store-object-missing", `cannot ${what}: no such object`);
    case "no-bucket":
      return fault(
        "store-missing",
        `bucket ${where.bucket} does not exist at ${host}`,
        "create it; it is never created for you",
      );
    case "denied":
      return fault("store-denied", `cannot ${what}: ${said}`, deniedHint(answer));
    case "locked":
      return fault("store-locked", `cannot ${what}: the store keeps it under a lock`);
    case "region":
      return fault(
        "store-region",
        `bucket ${where.bucket} lives in ${answer.region === undefined ? "another region" : `region ${answer.region}`}`,
        answer.region === undefined ? "set the store's region" : `set the store's region to ${answer.region}`,
      );
    case "damaged":
      return fault("store-damaged", `cannot ${what}: the store received other bytes than were sent`);
    case "full":
      return fault("store-full", `cannot ${what}: ${said}`, "free space, raise the quota, or shorten retention");
    case "unknown":
      return unknownFault(answer, host, what, fault);
    case "conflict":
    case "no-upload":
    case "refused":
      return fault(
        "store-refused",
        `cannot ${what}: ${said}${refusedHint(answer) === undefined ? "" : ` (status ${answer.status})`}`,
        refusedHint(answer),
      );
  }
}

function unknownFault(
  answer: Answer,
  host: string,
  what: string,
  fault: (code: FaultCode, message: string, hint?: string) => Fault,
): Fault {
  if (/CERT|ISSUER|SELF_SIGNED|UNABLE_TO_VERIFY/.test(answer.code)) {
    const unknown = /ISSUER|SELF_SIGNED|UNABLE_TO_VERIFY/.test(answer.code);
    return fault(
      "store-tls",
      `no trusted TLS connection to ${host}: ${answer.code}`,
      unknown
        ? "the server's certificate is from an unknown authority: name its file with the store's `ca`"
        : "renew or correct the server's certificate, or the endpoint's name",
    );
  }
  if (/SSL|TLS|EPROTO/.test(answer.code)) {
    return fault(
      "store-unreachable",
      `no TLS connection to ${host}: ${answer.code}`,
      "http:// or https://? check the endpoint",
    );
  }
  if (answer.code === "ENOTFOUND" || answer.code === "EAI_AGAIN") {
    return fault(
      "store-unreachable",
      `cannot ${what}: the name of ${host} does not resolve`,
      "check the endpoint and the resolver",
    );
  }
  if (answer.code.startsWith("HPE_")) {
    return fault("store-unreachable", `${host} does not speak HTTP`, "http:// or https://? check the endpoint");
  }
  if (
    answer.status === undefined &&
    answer.code === "" &&
    answer.name === "Error" &&
    /region is missing/i.test(answer.message)
  ) {
    return fault("store-region", "no region is known for the store", "set the store's region");
  }
  return fault("store-unreachable", `cannot ${what}: ${answer.code || answer.name} from ${host}`);
}

function deniedHint(answer: Answer): string {
  switch (answer.code || answer.name) {
    case "CredentialsProviderError":
      return "no credentials were found: set the store's credentials file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    case "ExpiredToken":
    case "ExpiredTokenException":
    case "InvalidToken":
      return "the credentials are no longer valid: renew them";
    case "InvalidAccessKeyId":
    case "XAdminUserNotFound":
      return "the store does not know the access key: is it of this endpoint and account?";
    case "RequestTimeTooSkewed":
      return "the clock of this machine and that of the store differ: synchronise it (chrony, systemd-timesyncd)";
    case "SignatureDoesNotMatch":
      return "the secret key does not belong to the access key";
    default:
      return "the credentials lack a right on the bucket or prefix (get, put, list, abort); docs tell which ones are needed";
  }
}

function refusedHint(answer: Answer): string | undefined {
  if (answer.status === 501 || answer.name === "NotImplemented" || /checksum/i.test(answer.message)) {
    return "an old gateway? try the store's `checksums: none`";
  }
  return undefined;
}

/** Reads an SDK error without believing its shape. */
function answerOf(error: unknown): Answer {
  const metadata = property(error, "$metadata");
  const status = property(metadata, "httpStatusCode");
  const attempts = property(metadata, "attempts");
  const headers = property(property(error, "$response"), "headers");
  return {
    name: text(property(error, "name")) ?? "Error",
    message: text(property(error, "message")) ?? "",
    code: text(property(error, "code")) ?? text(property(error, "Code")) ?? "",
    status: typeof status === "number" ? status : undefined,
    attempts: typeof attempts === "number" ? attempts : 1,
    region: text(property(error, "Region")) ?? text(property(headers, "x-amz-bucket-region")),
  };
}

function property(of: unknown, name: string): unknown {
  return typeof of === "object" && of !== null && name in of ? (of as Record<string, unknown>)[name] : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
