import type { Certificate } from "../etcd/etcd.ts";
import { report, type Finding } from "./finding.ts";

const dayMs = 86_400_000;
/** A certificate that ends sooner than this needs somebody now. */
const soonMs = 21 * dayMs;

/** What is wrong with one certificate's dates and names. `of` says whose it is. */
export function judgeCertificate(
  { subject, notBeforeMs, notAfterMs, names }: Certificate,
  of: { readonly what: string; readonly needsNames: boolean; readonly renew: string },
  nowMs: number,
): Finding {
  const { ok, warning, problem } = report("etcd", "certificate");
  const named = `${of.what} (${subject})`;
  const at = (timeMs: number): string => new Date(timeMs).toISOString().slice(0, 10);
  if (nowMs > notAfterMs) return problem("etcd-tls", `${named} expired on ${at(notAfterMs)}`, of.renew);
  if (nowMs < notBeforeMs) {
    return problem("etcd-tls", `${named} begins only on ${at(notBeforeMs)}`, "is this host's clock right: timedatectl");
  }
  const days = Math.floor((notAfterMs - nowMs) / dayMs);
  if (notAfterMs - nowMs < soonMs) return warning(`${named} expires in ${days} days, on ${at(notAfterMs)}`, of.renew);
  if (of.needsNames && names.length === 0) {
    return warning(
      `${named} carries no subject alternative name: etcd from 3.4.19 on, and this program, go by nothing else`,
      "issue it again with the addresses of the member as subject alternative names",
    );
  }
  const carries = of.needsNames ? `, for ${names.slice(0, 6).join(", ")}${names.length > 6 ? ", …" : ""}` : "";
  return ok(`${named} until ${at(notAfterMs)}${carries}`);
}
