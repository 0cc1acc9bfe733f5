import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { askReady } from "../src/compose-ready.ts";
import { createAuthority } from "./cluster/tls.ts";

const directory = mkdtempSync(join(tmpdir(), "ready-"));
const signal = new AbortController().signal;
let server: Server;
let base: string;
let files: { readonly readyCa: string; readonly readyCert: string; readonly readyKey: string };
/** By path: the status of the answer, or half an answer. */
let answers: Readonly<Record<string, number | "half">>;
let strangers = 0;

beforeAll(async () => {
  const authority = await createAuthority(directory);
  const serving = await authority.issue({ commonName: "localhost", fileName: "serving", usage: "server" });
  const client = await authority.issue({ commonName: "reader", usage: "client" });
  files = { readyCa: authority.ca, readyCert: client.cert, readyKey: client.key };
  const tls = { cert: readFileSync(serving.cert), key: readFileSync(serving.key), ca: readFileSync(authority.ca) };
  server = createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, (request, response) => {
    if (!(request.socket as TLSSocket).authorized) strangers += 1;
    const answer = answers[request.url ?? ""] ?? 404;
    if (answer === "half") response.writeHead(200, { "content-length": 100 }).write("half", () => response.destroy());
    else response.writeHead(answer).end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

const asked = async (given: typeof answers): Promise<string | undefined> => {
  answers = given;
  return await askReady({ ready: `${base}/readyz`, read: `${base}/object`, ...files }, signal);
};

test("it is ready when it says so and an object was read through it", async () => {
  strangers = 0;
  expect(await asked({ "/readyz": 200, "/object": 200 })).toBeUndefined();
  expect(strangers).toBe(0);
});

test("it is not while it says no, and nothing is read then", async () => {
  expect(await asked({ "/readyz": 500, "/object": 200 })).toBe("it answers 500");
});

test("it is not while an object cannot be read through it, or only half of it", async () => {
  expect(await asked({ "/readyz": 200, "/object": 504 })).toBe("a read through it: it answers 504");
  expect(await asked({ "/readyz": 200, "/object": "half" })).toMatch(/^a read through it: /);
});

test("a server whose certificate nobody trusts, and nobody at all, are told in a few words", async () => {
  const untrusted = { ready: `${base}/readyz` };
  expect(await askReady(untrusted, signal)).toMatch(/UNABLE_TO|SELF_SIGNED/);
  expect(await askReady({ ready: "http://127.0.0.1:1/readyz" }, signal)).toBe("ECONNREFUSED");
});

test("a file that cannot be read is a fault that names it", async () => {
  const missing = { ready: `${base}/readyz`, readyCa: join(directory, "nowhere.crt") };
  await expect(askReady(missing, signal)).rejects.toMatchObject({
    code: "config-invalid",
    message: expect.stringMatching(/readyCa of a service: .*nowhere\.crt cannot be read: ENOENT/) as string,
  });
});
