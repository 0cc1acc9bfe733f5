import { abortFault } from "../faults.ts";
import { get } from "./http.ts";
import type { GetOptions } from "./http.ts";

const limits = { timeoutMs: 5000, maxBytes: 8 * 2 ** 20 };

/**
 * `etcd_disk_defrag_inflight` of a member's metrics page (etcd 3.4.11 and later); undefined when the page cannot be read
 * or has no such metric, since metrics may be served elsewhere or not at all.
 */
export async function askDefragmenting(
  baseUrl: string,
  options: Pick<GetOptions, "tls" | "serverName">,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const path = `${new URL(baseUrl).pathname.replace(/\/+$/, "")}/metrics`.replace(/^\/metrics\/metrics$/, "/metrics");
  try {
    const page = await get(baseUrl, path, { ...options, ...limits }, signal);
    const inflight = /^etcd_disk_defrag_inflight (\S+)/m.exec(page.body)?.[1];
    return page.status === 200 && inflight !== undefined ? Number(inflight) > 0 : undefined;
  } catch {
    if (signal.aborted) throw abortFault(signal);
    return undefined;
  }
}
