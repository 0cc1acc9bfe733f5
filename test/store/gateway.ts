import { ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
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
