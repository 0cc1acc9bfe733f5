import { abortFault } from "../faults.ts";
import type { V2Content } from "./etcd.ts";
import { get } from "./http.ts";
import type { GetOptions } from "./http.ts";

const limits = { timeoutMs: 5000, maxBytes: 8 * 2 ** 20 };

/**
 * Whether a member keeps keys of the v2 API, which no v3 snapshot contains. `version` is the server's. Keys whose name
 * begins with an underscore are hidden from every listing, so "no" is about the others.
 */
export async function askV2(
  url: string,
  version: string,
  options: Pick<GetOptions, "tls" | "serverName">,
  signal: AbortSignal,
): Promise<V2Content> {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > 3 || (major === 3 && minor >= 6)) return { state: "no", why: "etcd 3.6 and later have no v2 store" };
  try {
    const page = await get(url, "/v2/keys/?recursive=false&quorum=false", { ...options, ...limits }, signal);
    if (page.status === 200) return judge(page.body);
    if (page.status === 404) return unknown("the member does not serve the v2 API (--enable-v2 is off)");
    if (page.status === 401) return unknown("the v2 API asks for a user of its own");
    return unknown(`the v2 API answers HTTP ${page.status}`);
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    return unknown(`the v2 API does not answer: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function judge(body: string): V2Content {
  const answer: unknown = JSON.parse(body);
  const root = property(answer, "node");
  if (property(root, "dir") !== true) return unknown("the v2 API gives an answer that cannot be read");
  const nodes = property(root, "nodes");
  const count = Array.isArray(nodes) ? nodes.length : 0;
  return count === 0
    ? { state: "no", why: "the v2 store has no keys" }
    : { state: "yes", why: `the v2 store has keys (${count} at its root)` };
}

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

function unknown(why: string): V2Content {
  return { state: "unknown", why };
}
