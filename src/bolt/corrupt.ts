import { Fault } from "../faults.ts";

/** The fault for damage of one page; `page` is the page's number in the file, `reason` says what is wrong there. */
export function corrupt(page: number, reason: string): Fault {
  return new Fault("bolt-corrupt", `page ${page}: ${reason}`, {
    hint: "take another snapshot, from another member if this one sends damage again",
  });
}

/** The fault for a file that is sound as far as bbolt is concerned, but is no database of etcd's. */
export function foreign(reason: string): Fault {
  return new Fault("bolt-corrupt", reason, { hint: "give a file that etcdctl snapshot save or this program wrote" });
}
