import { Writable } from "node:stream";

import { expect, test } from "vitest";

import type { LifeboatEvent } from "../../src/events.ts";
import { openLog } from "../../src/telemetry/log.ts";
import { openMetrics } from "../../src/telemetry/metrics.ts";
import { redact } from "../../src/telemetry/redact.ts";
import { statusPage } from "../../src/telemetry/status-page.ts";
import { openStatus } from "../../src/telemetry/status.ts";
import { allSamples, samples } from "./samples.ts";

const canary = "CANARY7f3a9c";

/** Everything that the telemetry shows anywhere after these events. */
async function everythingShown(events: readonly LifeboatEvent[]): Promise<string> {
  let shown = "";
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      shown += chunk.toString();
      done();
    },
  });
  await using json = openLog({ level: "debug", format: "json", destination });
  await using text = openLog({ level: "debug", format: "text", destination });
  const metrics = openMetrics({ version: "0.1.0", cluster: "prod", schedules: ["hourly"], copies: ["offsite"] });
  const status = openStatus({
    copies: ["offsite"],
    cluster: "prod",
    version: "0.1.0",
    schedules: ["hourly"],
    now: () => 0,
  });
  for (const event of events) for (const { listen } of [json, text, metrics, status]) listen(event);
  await json.flush();
  await text.flush();
  return shown + (await metrics.page()).body + statusPage(status.read(), 0);
}

test("a field that no event has is shown nowhere, whatever else the object carries", async () => {
  const carriers = allSamples.map((event) => ({
    ...event,
    password: canary,
    cause: new Error(canary),
    config: { secretKey: canary },
    toJSON: () => ({ all: canary }),
    [canary]: canary,
  }));
  const shown = await everythingShown(carriers);
  expect(shown).toContain("backup.committed");
  expect(shown).not.toContain(canary);
});

test("an Error in the place of a text is named, never serialised, and its causes neither", async () => {
  const error = Object.assign(new Error(canary, { cause: new Error(canary) }), { token: canary });
  const forged = { ...samples["backup.failed"], hint: error as unknown as string };
  const shown = await everythingShown([forged]);
  expect(shown).toContain("[unfit: object]");
  expect(shown).not.toContain(canary);
});

const quoting = [
  `connect to https://root:${canary}@10.0.0.11:2379 failed`,
  `GET https://s3.example.org/b/k?X-Amz-Credential=AKIA&X-Amz-Signature=${canary}&x=1 gave 403`,
  `GET https://s3.example.org/b/k?x=1&X-Amz-Security-Token=${canary}`,
  `sts: https://sts.example.org/?WebIdentityToken=${canary}`,
  `request had authorization: Bearer ${canary}`,
  `{"Authorization":"AWS4-HMAC-SHA256 Credential=x, Signature=${canary}"}`,
  `header was Basic ${canary}==`,
  `AWS_SECRET_ACCESS_KEY=${canary} is not valid`,
  `{"secretAccessKey":"${canary}","password": "${canary}"}`,
  `password="${canary}"`,
  `identity AGE-SECRET-KEY-1${canary} does not fit`,
  `-----BEGIN EC PRIVATE KEY-----\n${canary}\n-----END EC PRIVATE KEY-----`,
  `-----BEGIN PRIVATE KEY-----\n${canary}`,
];

test.each(quoting)("a message that quotes a secret is shown without it: %s", async (message) => {
  const members = [{ member: "etcd1", up: false, code: "etcd-auth", message }] as const;
  const shown = await everythingShown([
    { name: "warning", about: "x", message },
    { ...samples["backup.failed"], message, hint: message },
    { name: "cluster.observed", members, quorum: false },
    { name: "store.observed", up: false, backups: undefined, oldestMs: undefined, message },
    { ...samples["source.chosen"], rejected: [{ member: "etcd1", why: message }] },
  ]);
  expect(shown).not.toContain(canary);
});

test.each([
  "cluster.auth.password: the file /etc/etcd-lifeboat/password cannot be read",
  "no connection to https://10.0.0.11:2379: connection refused",
  "the key /etc/kubernetes/pki/etcd/healthcheck-client.key belongs to another certificate",
  "age1exampleoperations is no recipient",
  "user@example.org may not read kms:Decrypt",
])("a message without a secret is shown as it is: %s", (message) => {
  expect(redact(message)).toBe(message);
});

test("long text is cut, and quickly even where it was made to be slow", () => {
  const began = performance.now();
  for (const piece of ["a", "a://", "x@", "?key=", "-----BEGIN PRIVATE KEY-----", "authorization", "secret="]) {
    expect(redact(piece.repeat(1_000_000 / piece.length)).length).toBeLessThan(2100);
  }
  // Backtracking over a megabyte would take hours.
  expect(performance.now() - began).toBeLessThan(20_000);
});
