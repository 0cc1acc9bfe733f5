import {
  CreateBucketCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectLockConfigurationCommand,
} from "@aws-sdk/client-s3";
import { openS3Store } from "../../src/store/s3.ts";
import type { S3Options } from "../../src/store/s3.ts";
import type { Store } from "../../src/store/store.ts";
import type { TestS3 } from "../cluster/s3.ts";

export interface Bucket {
  readonly store: Store;
  /** How many multipart uploads are unfinished in it. */
  readonly leftovers: () => Promise<number>;
}

/** What the product is given to reach the server. */
export function optionsFor(s3: TestS3): Pick<S3Options, "endpoint"> & { readonly credentials: Keys } {
  return { endpoint: s3.url, credentials: { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey } };
}

interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** A store below a prefix in a bucket that exists. */
export function openBucket(s3: TestS3, options: Partial<S3Options> & { readonly bucket: string }): Bucket {
  return {
    store: openS3Store({ ...optionsFor(s3), prefix: "site/backups", ...options }),
    leftovers: async () => {
      const client = s3.client();
      const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: options.bucket }));
      client.destroy();
      return Uploads?.length ?? 0;
    },
  };
}

/** A new bucket and a store in it. */
export async function makeBucket(
  s3: TestS3,
  options: Partial<S3Options> & { readonly bucket: string },
): Promise<Bucket> {
  await s3.createBucket(options.bucket);
  return openBucket(s3, options);
}

/** A new bucket in which every object is locked for a day. */
export async function makeLockedBucket(s3: TestS3, bucket: string): Promise<void> {
  const client = s3.client();
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
  await client.send(
    new PutObjectLockConfigurationCommand({
      Bucket: bucket,
      ObjectLockConfiguration: {
        ObjectLockEnabled: "Enabled",
        Rule: { DefaultRetention: { Mode: "COMPLIANCE", Days: 1 } },
      },
    }),
  );
  client.destroy();
}

/** Every version of every object in a bucket, by its key in order, and the marks of deleted ones. */
export async function versionsOf(
  s3: TestS3,
  bucket: string,
): Promise<{ readonly keys: readonly string[]; readonly deleted: readonly string[] }> {
  const client = s3.client();
  const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  client.destroy();
  const names = (found: readonly { readonly Key?: string | undefined }[]): readonly string[] =>
    found.map(({ Key = "" }) => Key).toSorted((a, b) => (a < b ? -1 : 1));
  return { keys: names(Versions), deleted: names(DeleteMarkers) };
}
