import { setTimeout as sleep } from "node:timers/promises";
import { Fault, isFault, throwIfAborted } from "../faults.ts";
import { parseAddress } from "./address.ts";
import { explain } from "./probe.ts";
import type { TlsFiles } from "./tls-files.ts";
import type { Login } from "./token.ts";
import { requestToken } from "./token.ts";
import type { Asked } from "./translate.ts";
import { isTokenTrouble, translate } from "./translate.ts";

/** A token that another member issued reaches this one with the next applied entries. */
const propagationMs = 300;

export interface SessionOptions {
  readonly tls: TlsFiles;
  readonly login: Login | undefined;
  /** Where tokens are asked for when the member itself cannot give one: a learner. */
  readonly endpoints: readonly string[];
  readonly tokenMs: number;
}

/** Who we are towards one cluster: at most one token, shared by all members, asked for by the first call that needs it. */
export class Session {
  readonly options: SessionOptions;
  #token: Promise<string | undefined> | undefined;

  constructor(options: SessionOptions) {
    this.options = options;
  }

  /** The configured user, else the CN of the client certificate where there is one. */
  async user(): Promise<Pick<Asked, "user" | "validTo">> {
    const { tls, login } = this.options;
    const material = tls.paths.cert === undefined ? undefined : await tls.load().catch(() => undefined);
    return { user: login?.username ?? material?.commonName, validTo: material?.validTo };
  }

  /** Reads the TLS files where `at` needs them, so that what is wrong with them is said as it is. */
  async prepare(at: Endpoint): Promise<void> {
    if (parseAddress(at.url).secure) await this.options.tls.load();
  }

  /** The token for a call to `at`; undefined without a configured user, or while authentication is off. */
  async token(at: Endpoint, signal: AbortSignal): Promise<string | undefined> {
    const { login } = this.options;
    if (login === undefined) return undefined;
    const asked = (this.#token ??= this.#request(at, login, signal));
    try {
      return await asked;
    } catch (error) {
      if (this.#token === asked) this.#token = undefined;
      // Another call's abort is no reason for this one to fail.
      if (isFault(error, "interrupted") && !signal.aborted) return this.token(at, signal);
      throw error;
    }
  }

  /**
   * Replaces a token that was refused. True when the failed call is worth one more try; a token that another call has
   * replaced meanwhile is not replaced again.
   */
  async renew(error: unknown, used: string | undefined, at: Endpoint, signal: AbortSignal): Promise<boolean> {
    if (this.options.login === undefined || !isTokenTrouble(error)) return false;
    const current = await this.#token?.catch(() => undefined);
    if (current === used) this.#token = undefined;
    await this.token(at, signal);
    return true;
  }

  async #request(at: Endpoint, login: Login, signal: AbortSignal): Promise<string | undefined> {
    const { endpoints, tls, tokenMs } = this.options;
    try {
      return await requestToken(at.url, login, tls, at.serverName, tokenMs, signal);
    } catch (error) {
      const first = await this.explain(error, at, "Authenticate", signal);
      // A learner issues no tokens, the members that vote do.
      if (first.code !== "etcd-unsupported") throw first;
      for (const url of endpoints.filter((each) => each !== at.url)) {
        try {
          const token = await requestToken(url, login, tls, tls.paths.serverName, tokenMs, signal);
          await sleep(propagationMs, undefined, { signal });
          return token;
        } catch {
          // The learner's own answer is what is reported when no endpoint gives a token.
          throwIfAborted(signal);
        }
      }
      throw first;
    }
  }

  /** The fault for an error of a call to `at`. */
  async explain(error: unknown, at: Endpoint, call: string, signal: AbortSignal): Promise<Fault> {
    if (error instanceof Fault) return error;
    const { tls } = this.options;
    const asked: Asked = { name: at.name, url: at.url, call, tls: tls.paths, ...(await this.user()) };
    // Who listens at the URL is somebody else.
    if (at.socket !== undefined) return translate(error, asked);
    return explain(error, asked, tls, at.serverName, signal);
  }
}

/** Where a call goes. */
export interface Endpoint {
  readonly name: string;
  readonly url: string;
  readonly serverName: string | undefined;
  readonly socket?: string | undefined;
}
