import {
  AbortMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import type { LifecycleRule } from "@aws-sdk/client-s3";
import { throwIfAborted } from "../faults.ts";
import { crc32c, crc32cToBase64 } from "../crc32c.ts";
import { connect, isBug } from "./s3-client.ts";
import type { Connection, S3Options } from "./s3-client.ts";
import { meaningOf } from "./s3-faults.ts";
import type { BucketTraits, ExamineBucket, Known } from "./store.ts";

/** Answers what a bucket is like, over a connection of its own. */
export function openS3Examiner(options: S3Options): ExamineBucket {
  const connection = connect({ ...options, attempts: 2 });
  return async (probe, signal) => ({
    versioning: await told(signal, async () => await versioningOf(connection, signal)),
    lock: await told(signal, async () => await lockOf(connection, signal)),
    lifecycle: await told(signal, async () => await lifecycleOf(connection, signal)),
    rangedRead: await told(signal, async () => await readsRanges(connection, `${probe}range`, signal)),
    checksumChecked: await told(signal, async () => await checksChecksums(connection, `${probe}checksum`, signal)),
    uploadsAborted: await told(signal, async () => await abortsUploads(connection, `${probe}aborted`, signal)),
  });
}

/** What cannot be asked is an answer, too: a right that is missing, or a service that knows no such thing. */
async function told<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<Known<T>> {
  try {
    return { known: true, value: await ask() };
  } catch (error) {
    throwIfAborted(signal);
    if (isBug(error)) throw error;
    const meaning = meaningOf(error);
    if (meaning === "denied") return { known: false, denied: true, why: "these credentials may not ask for it" };
    const name = error instanceof Error ? error.name : "";
    const why = /^(NotImplemented|MethodNotAllowed|NotSupported)$/.test(name)
      ? "the service does not know it"
      : meaning === "unknown"
        ? "the service does not answer"
        : `the service answered ${name === "" ? "with an error" : name}`;
    return { known: false, denied: false, why };
  }
}

async function versioningOf(
  { ask, bucket, writer }: Connection,
  signal: AbortSignal,
): Promise<"enabled" | "suspended" | "off"> {
  const command = new GetBucketVersioningCommand({ Bucket: bucket });
  const { Status: status } = await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
  return status === "Enabled" ? "enabled" : status === "Suspended" ? "suspended" : "off";
}

type Told<K extends keyof BucketTraits> = Extract<BucketTraits[K], { readonly known: true }>["value"];

async function lockOf({ ask, bucket, writer }: Connection, signal: AbortSignal): Promise<Told<"lock">> {
  const command = new GetObjectLockConfigurationCommand({ Bucket: bucket });
  try {
    const answer = await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
    const { ObjectLockEnabled: enabled, Rule: rule } = answer.ObjectLockConfiguration ?? {};
    if (enabled !== "Enabled") return undefined;
    const { Mode: mode, Days: days, Years: years } = rule?.DefaultRetention ?? {};
    return { mode, days: days ?? (years === undefined ? undefined : years * 365) };
  } catch (error) {
    // A bucket without locks says so by an error.
    if (error instanceof Error && error.name.startsWith("ObjectLockConfigurationNotFound")) return undefined;
    throw error;
  }
}

async function lifecycleOf(connection: Connection, signal: AbortSignal): Promise<Told<"lifecycle">> {
  const { ask, bucket, writer, root } = connection;
  const command = new GetBucketLifecycleConfigurationCommand({ Bucket: bucket });
  let rules: readonly LifecycleRule[];
  try {
    rules = (await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }))).Rules ?? [];
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "NoSuchLifecycleConfiguration") throw error;
    rules = [];
  }
  const ours = rules.filter((rule) => rule.Status === "Enabled" && touches(rule, root));
  const aborts = ours.flatMap(({ AbortIncompleteMultipartUpload: abort }) => abort?.DaysAfterInitiation ?? []);
  return {
    abortsUploadsAfterDays: aborts.length === 0 ? undefined : Math.min(...aborts),
    expiresAfterDays: ours.flatMap(({ Expiration: expiration }) =>
      expiration?.Date === undefined ? (expiration?.Days ?? []) : 0,
    ),
  };
}

/** Whether a rule is for something of ours: its prefix lies above our root, or below it. Rules by tags are not for us, who set none. */
function touches(rule: LifecycleRule, root: string): boolean {
  const { Filter: filter } = rule;
  if (filter?.Tag !== undefined || (filter?.And?.Tags?.length ?? 0) > 0) return false;
  // Rules of old have their prefix elsewhere.
  const old: unknown = Reflect.get(rule, "Prefix");
  const prefix = filter?.Prefix ?? filter?.And?.Prefix ?? (typeof old === "string" ? old : "");
  return root.startsWith(prefix) || prefix.startsWith(root);
}

const sample = Buffer.from("etcd-lifeboat doctor: this object may be removed\n");

async function put({ ask, bucket, root, writer }: Connection, name: string, crc: number, signal: AbortSignal) {
  const command = new PutObjectCommand({
    Bucket: bucket,
    Key: root + name,
    Body: sample,
    ContentLength: sample.length,
    ChecksumCRC32C: crc32cToBase64(crc),
  });
  await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
}

async function readsRanges(connection: Connection, name: string, signal: AbortSignal): Promise<boolean> {
  const { ask, bucket, root, reader } = connection;
  await put(connection, name, crc32c(sample), signal);
  const command = new GetObjectCommand({ Bucket: bucket, Key: root + name, Range: "bytes=5-12" });
  const answer = await ask(signal, async (abortSignal) => await reader.send(command, { abortSignal }));
  const bytes = await answer.Body?.transformToByteArray();
  return bytes !== undefined && Buffer.from(bytes).equals(sample.subarray(5, 13));
}

async function checksChecksums(connection: Connection, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await put(connection, name, (crc32c(sample) ^ 1) >>> 0, signal);
    return false;
  } catch (error) {
    const meaning = meaningOf(error);
    // Some services call it a bad request without saying more.
    if (meaning === "damaged" || meaning === "refused") return true;
    throw error;
  }
}

async function abortsUploads(connection: Connection, name: string, signal: AbortSignal): Promise<boolean> {
  const { ask, bucket, root, writer } = connection;
  const at = { Bucket: bucket, Key: root + name };
  const begin = new CreateMultipartUploadCommand(at);
  const { UploadId } = await ask(signal, async (abortSignal) => await writer.send(begin, { abortSignal }));
  const abort = new AbortMultipartUploadCommand({ ...at, UploadId });
  await ask(signal, async (abortSignal) => await writer.send(abort, { abortSignal }));
  const list = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: root + name });
  const { Uploads } = await ask(signal, async (abortSignal) => await writer.send(list, { abortSignal }));
  return !(Uploads ?? []).some((upload) => upload.UploadId === UploadId);
}
