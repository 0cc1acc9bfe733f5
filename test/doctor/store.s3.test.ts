import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, PutObjectLockConfigurationCommand, type S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { Finding } from "../../src/doctor/finding.ts";
import { examineStore } from "../../src/doctor/store.ts";
import { openDirectoryStore } from "../../src/store/directory.ts";
import { openS3Examiner } from "../../src/store/s3-examine.ts";
import { openS3Store, type S3Options } from "../../src/store/s3.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { calm } from "../snapshot/bytes.ts";
import { startFaultProxy } from "../store/fault-proxy.ts";
import { optionsFor } from "../store/gateway.ts";

/** What the doctor says of real buckets, and what it leaves in them. */

const id = "01JQ000000000000000000000A";

async function examine(options: S3Options, expires = false): Promise<readonly Finding[]> {
  const deps = { store: openS3Store(options), bucket: openS3Examiner(options), clock: systemClock, expires };
  return await examineStore({ ...deps, newId: () => id }, calm);
}

function severities(findings: readonly Finding[]): Readonly<Record<string, string>> {
  return Object.fromEntries(findings.map(({ check, severity }) => [check, severity]));
}

async function namesIn(options: S3Options): Promise<readonly string[]> {
  return (await Array.fromAsync(openS3Store(options).list("", calm))).map(({ name }) => name);
}

describe.each(["plain", "versioned"] as const)("a %s bucket", (kind) => {
  let server: TestS3;
  let client: S3Client;
  beforeAll(async () => {
    server = await startS3({ versioning: kind === "versioned" });
    client = server.client();
  });
  afterAll(async () => {
    client.destroy();
    await server[Symbol.asyncDispose]();
  });
  const at = (bucket: string): S3Options & { readonly bucket: string } => ({
    ...optionsFor(server),
    bucket,
    prefix: "site/prod",
  });

  test("everything that backups need works, versions are seen, and nothing is left", async () => {
    const bucket = `sound-${randomUUID()}`;
    await server.createBucket(bucket);
    const findings = await examine(at(bucket));
    expect(severities(findings), JSON.stringify(findings, null, 1)).toMatchObject({
      clock: "ok",
      access: "ok",
      conditional: "ok",
      "conditional-upload": "ok",
      checksum: "ok",
      listing: "ok",
      versioning: kind === "versioned" ? "ok" : "note",
      lock: "note",
      "ranged-read": "ok",
      "checksum-checked": "ok",
      "upload-abort": "ok",
      deletes: kind === "versioned" ? "ok" : "warning",
    });
    expect(await namesIn(at(bucket))).toEqual([]);
  });
});

describe("a bucket that guards itself", () => {
  let server: TestS3;
  let client: S3Client;
  beforeAll(async () => {
    server = await startS3({ versioning: true });
    client = server.client();
  });
  afterAll(async () => {
    client.destroy();
    await server[Symbol.asyncDispose]();
  });

  test("with a lock is told, and what the lock keeps is said to be left", async () => {
    const bucket = "locked";
    await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
    const Rule = { DefaultRetention: { Mode: "COMPLIANCE" as const, Days: 1 } };
    const configuration = { ObjectLockEnabled: "Enabled" as const, Rule };
    await client.send(
      new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration: configuration }),
    );
    const options = { ...optionsFor(server), bucket, prefix: "prod" };
    const findings = await examine(options);
    expect(severities(findings), JSON.stringify(findings, null, 1)).toMatchObject({ lock: "ok", versioning: "ok" });
    expect(findings.find(({ check }) => check === "lock")?.message).toContain("locked for 1 days (COMPLIANCE)");
    const left = await namesIn(options);
    const said = findings.find(({ message }) => message.startsWith("left below"))?.message ?? "";
    for (const name of left) expect(said).toContain(name.slice(`doctor/${id}/`.length));
    expect(left.length > 0).toBe(said !== "");
  });

  test("that refuses deletes, writes, or everything is told for what it is", async () => {
    await server.createBucket("refusing");
    await using proxy = await startFaultProxy(server.url);
    const options = { ...optionsFor(server), endpoint: proxy.endpoint, bucket: "refusing", prefix: "prod" };
    const body = '<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>';
    const mischief = { kind: "answer", status: 403, body } as const;
    const deletes = proxy.add({ method: "DELETE", path: /doctor/, times: 1000, mischief });
    const appendOnly = await examine(options);
    expect(deletes()).toBeGreaterThan(2);
    expect(appendOnly.filter(({ check }) => check === "deletes").map(({ severity }) => severity)).toEqual([
      "ok",
      "note",
    ]);
    expect(severities(appendOnly)["upload-abort"]).toBe("unknown");
    const expiring = await examine({ ...options, prefix: "other" }, true);
    expect(expiring.find(({ check }) => check === "deletes")).toMatchObject({
      severity: "problem",
      code: "store-denied",
    });

    const asks = proxy.add({ method: "GET", path: /\?(versioning|object-lock|lifecycle)/, times: 1000, mischief });
    const blind = severities(await examine({ ...options, prefix: "third" }));
    expect(asks()).toBeGreaterThanOrEqual(3);
    expect(blind).toMatchObject({ versioning: "unknown", lock: "unknown", lifecycle: "unknown", access: "ok" });

    const writes = proxy.add({ method: "PUT", path: /./, times: 1000, mischief });
    const denied = await examine({ ...options, prefix: "fourth" });
    expect(writes()).toBeGreaterThan(0);
    expect(denied.find(({ check }) => check === "access")).toMatchObject({ severity: "problem", code: "store-denied" });
  });

  test("that has rules for what grows old is told where they are ours to know", async () => {
    await server.createBucket("ruled");
    await using proxy = await startFaultProxy(server.url);
    const rules = [
      ["prod/", "<Expiration><Days>30</Days></Expiration>"],
      ["else/", "<Expiration><Days>1</Days></Expiration>"],
      [
        "",
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
      ],
    ].map(
      ([prefix, what]) => `<Rule><Filter><Prefix>${prefix}</Prefix></Filter><Status>Enabled</Status>${what}</Rule>`,
    );
    const body = `<?xml version="1.0"?><LifecycleConfiguration>${rules.join("")}</LifecycleConfiguration>`;
    const fired = proxy.add({
      method: "GET",
      path: /\?lifecycle/,
      times: 2,
      mischief: { kind: "answer", status: 200, body },
    });
    const options = { ...optionsFor(server), endpoint: proxy.endpoint, bucket: "ruled" };
    const ours = await examine({ ...options, prefix: "prod" });
    expect(ours.find(({ check }) => check === "lifecycle")).toMatchObject({
      severity: "warning",
      message: expect.stringContaining("removes objects after 30 days") as string,
    });
    const others = await examine({ ...options, prefix: "site" });
    expect(others.find(({ check }) => check === "lifecycle")?.message).toContain("unfinished uploads after 3 days");
    expect(fired()).toBe(2);
  });
});

test("a directory is examined like a bucket as far as it can be, and nothing is left in it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "doctor-store-"));
  try {
    const store = openDirectoryStore({ directory });
    const deps = { store, bucket: undefined, clock: systemClock, newId: () => id, expires: false };
    const findings = await examineStore(deps, calm);
    expect(severities(findings), JSON.stringify(findings)).toEqual({
      clock: "ok",
      access: "ok",
      conditional: "ok",
      "conditional-upload": "ok",
      checksum: "note",
      listing: "ok",
      deletes: "ok",
    });
    expect(await Array.fromAsync(store.list("", calm))).toEqual([]);
    const missing = openDirectoryStore({ directory: join(directory, "not-mounted") });
    const [first] = (await examineStore({ ...deps, store: missing }, calm)).filter(
      ({ severity }) => severity === "problem",
    );
    expect(first).toMatchObject({ check: "access", code: "store-missing" });
  } finally {
    await rm(directory, { recursive: true });
  }
});
