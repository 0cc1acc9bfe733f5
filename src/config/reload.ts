import { isDeepStrictEqual } from "node:util";
import { Fault } from "../faults.ts";
import type { Config } from "./schema.ts";

/** What a running process is bound to: its metrics' label, its address, the form of its log. */
const bound: readonly (readonly [about: string, read: (config: Config) => unknown])[] = [
  ["cluster.name", ({ cluster }) => cluster.name],
  ["http.listen", ({ http }) => http.listen],
  ["http.tls", ({ http }) => http.tls !== undefined],
  ["log.format", ({ log }) => log.format],
];

/** Throws `config-invalid` when a configuration cannot take another one's place in a running process, and names what would need a restart. */
export function refuseRestartOnly(current: Config, next: Config): void {
  const changed = bound.filter(([, read]) => !isDeepStrictEqual(read(current), read(next))).map(([about]) => about);
  if (changed.length === 0) return;
  throw new Fault("config-invalid", `${changed.join(" and ")} cannot be changed while it runs`, {
    hint: "restart it: systemctl restart etcd-lifeboat",
  });
}
