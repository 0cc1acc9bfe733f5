import { Fault } from "../faults.ts";
import type { Guarded } from "./guarded.ts";

/** What a program that ended too early says of the snapshot: nothing when it was killed or had no room. */
export function endFault(who: string, what: string, end: Awaited<Guarded["ended"]>): Fault {
  const lastLine = end.output.trimEnd().split("\n").at(-1)?.slice(0, 400) ?? "";
  const how = end.status === null || end.status > 128 ? "was killed" : `ended with status ${end.status}`;
  const hint = lastLine === "" ? undefined : `its last words: ${lastLine}`;
  if (/no space left on device/i.test(end.output)) {
    return new Fault("spool-space", `${who} had no room: it ${what}`, { hint: "free space under spool.directory" });
  }
  return new Fault(how === "was killed" ? "failed" : "boot-failed", `${who} ${what}: it ${how}`, { hint });
}
