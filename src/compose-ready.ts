import { readFile } from "node:fs/promises";
import { request as requestHttp } from "node:http";
import { request as requestHttps, type RequestOptions } from "node:https";
import { Fault } from "./faults.ts";

/** How a service is asked whether it is ready, as its configuration says. */
export interface ReadyQuestion {
  /** Answers 200 when it is ready. */
  readonly ready?: string | undefined;
  /** Answers 200 with something that it has read from etcd; asked when it is ready. */
  readonly read?: string | undefined;
  readonly readyCa?: string | undefined;
  readonly readyCert?: string | undefined;
  readonly readyKey?: string | undefined;
}

const answersWithinMs = 5_000;

/** Asks a service whether it is ready, and serves what is in etcd: undefined when it does, else why not in a few words. `config-invalid` for a file that cannot be read. */
export async function askReady(question: ReadyQuestion, signal: AbortSignal): Promise<string | undefined> {
  const { ready, read, readyCa, readyCert, readyKey } = question;
  const files = {
    ...(readyCa !== undefined && { ca: await readPem("readyCa", readyCa) }),
    ...(readyCert !== undefined && { cert: await readPem("readyCert", readyCert) }),
    ...(readyKey !== undefined && { key: await readPem("readyKey", readyKey) }),
  };
  for (const url of [ready, read]) {
    const why = url === undefined ? undefined : await ask(url, files, signal);
    if (why !== undefined) return `${url === read ? "a read through it: " : ""}${why}`;
  }
  return undefined;
}

async function readPem(field: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Fault("config-invalid", `${field} of a service: ${path} cannot be read: ${code ?? String(error)}`, {
      cause: error,
    });
  }
}

async function ask(
  url: string,
  files: Pick<RequestOptions, "ca" | "cert" | "key">,
  outer: AbortSignal,
): Promise<string | undefined> {
  const signal = AbortSignal.any([outer, AbortSignal.timeout(answersWithinMs)]);
  return await new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException): void => resolve(error.code ?? error.message);
    const send = url.startsWith("https:") ? requestHttps : requestHttp;
    send(url, { ...files, signal, agent: false }, (response) => {
      response.resume();
      response.once("error", failed);
      // Half an answer is none: what was read from etcd has to come whole.
      response.once("end", () =>
        resolve(
          response.statusCode === 200 && response.complete ? undefined : `it answers ${response.statusCode ?? ""}`,
        ),
      );
    })
      .once("error", failed)
      .end();
  });
}
