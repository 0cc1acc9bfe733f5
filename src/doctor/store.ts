import type { Clock } from "../clock.ts";
import { crc32c } from "../crc32c.ts";
import { abortFault, isFault, type Fault } from "../faults.ts";
import type { BucketTraits, ExamineBucket, Known, Store } from "../store/store.ts";
import { report, type Finding } from "./finding.ts";

export interface StoreExamination {
  readonly store: Store;
  /** Undefined for stores that are no buckets. */
  readonly bucket: ExamineBucket | undefined;
  readonly clock: Clock;
  readonly newId: () => string;
  /** Whether the daemon removes what retention lets go, and so must be allowed to. */
  readonly expires: boolean;
}

/** More than one part of a multipart upload. */
const largeBytes = 6 * 2 ** 20 + 4096;
/** As much as expiry tolerates (failures of clocks make dates worthless). */
const mostSkewMs = 5 * 60_000;

/**
 * Tries on the store what backups do to it, below a prefix of its own that holds nothing else, and removes it again. What cannot be removed is said. Nothing
 * else is touched or read.
 */
export async function examineStore(deps: StoreExamination, signal: AbortSignal): Promise<readonly Finding[]> {
  const { store, clock } = deps;
  const probe = `doctor/${deps.newId()}/`;
  const found: Finding[] = [];
  try {
    found.push(examineClock(await store.now(signal), clock.now()));
    found.push(...(await tryStore(store, probe, signal)));
    if (deps.bucket !== undefined) found.push(...judgeTraits(await deps.bucket(probe, signal)));
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (!isFault(error)) throw error;
    found.push(report("store", "access").fault(error, "etcd-lifeboat config check"));
  }
  found.push(...(await tidy(deps, probe, found, signal)));
  return found;
}

function examineClock(storeNowMs: number | undefined, nowMs: number): Finding {
  const { ok, unknown, problem } = report("store", "clock");
  if (storeNowMs === undefined) return unknown("the store does not tell its time, so nothing is expired");
  const aheadMs = nowMs - storeNowMs;
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const says = `the clock of this host is ${seconds} s ${aheadMs >= 0 ? "ahead of" : "behind"} the store's`;
  if (Math.abs(aheadMs) <= mostSkewMs) return ok(says);
  return problem(
    "clock-skewed",
    says,
    "synchronise the clocks (chrony, systemd-timesyncd) of this host and of the store",
  );
}

async function tryStore(store: Store, probe: string, signal: AbortSignal): Promise<readonly Finding[]> {
  const { description } = store;
  const [one, two] = [Buffer.from("one\n"), Buffer.from("two\n")];
  const conditional = report("store", "conditional");
  const never = "use a store that honours If-None-Match: without it two daemons can overwrite each other's backups";
  await store.create(`${probe}create`, one, signal);
  const second = await refusal(() => store.create(`${probe}create`, two, signal), signal);
  const kept = Buffer.from(await store.read(`${probe}create`, signal));
  const found = [report("store", "access").ok(`${description} can be written and read`)];
  if (second?.code === "store-exists" && kept.equals(one))
    found.push(conditional.ok("an object that exists is not overwritten"));
  else if (second === undefined || second.code === "store-exists") {
    found.push(conditional.problem("store-refused", "an object that exists is overwritten", never));
  } else found.push(conditional.fault(second, never));

  const large = Buffer.alloc(largeBytes, "etcd-lifeboat doctor ");
  await store.upload(`${probe}large`, once(large), signal);
  const again = await refusal(() => store.upload(`${probe}large`, once(large), signal), signal);
  const multipart = report("store", "conditional-upload");
  if (again?.code === "store-exists") found.push(multipart.ok("neither is one that was uploaded in parts"));
  else if (again === undefined) {
    found.push(multipart.problem("store-refused", "an object that was uploaded in parts is overwritten", never));
  } else found.push(multipart.fault(again, never));

  const head = await store.head(`${probe}large`, signal);
  const checksum = report("store", "checksum");
  if (head?.storedBytes !== largeBytes) {
    const says = `an object of ${largeBytes} bytes is ${head === undefined ? "not there" : `kept as ${head.storedBytes}`}`;
    found.push(checksum.problem("store-damaged", says, "use another store"));
  } else if (head.crc32c === undefined) {
    found.push(
      checksum.note(
        "the store vouches for no checksum over a whole object: stored bytes are verified by reading them back",
      ),
    );
  } else if (head.crc32c === crc32c(large)) found.push(checksum.ok("the store keeps a CRC-32C over each whole object"));
  else
    found.push(
      checksum.problem(
        "store-damaged",
        "the store has another checksum than ours for the same bytes",
        "use another store",
      ),
    );

  const names = (await Array.fromAsync(store.list(probe, signal))).map(({ name }) => name);
  const listing = report("store", "listing");
  const missing = [`${probe}create`, `${probe}large`].filter((name) => !names.includes(name));
  if (missing.length === 0) found.push(listing.ok("what was written is listed at once"));
  else {
    const says = `what was just written is not listed: ${missing.join(", ")}`;
    found.push(
      listing.problem(
        "store-refused",
        says,
        "use a store whose listings are consistent, and allow s3:ListBucket for the prefix",
      ),
    );
  }
  return found;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** The fault that something ends with; undefined when it succeeds. */
async function refusal(act: () => Promise<unknown>, signal: AbortSignal): Promise<Fault | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (!isFault(error)) throw error;
    return error;
  }
}

function judgeTraits(traits: BucketTraits): readonly Finding[] {
  const { versioning, lock, lifecycle, rangedRead, checksumChecked, uploadsAborted } = traits;
  return [
    judge("versioning", versioning, "allow s3:GetBucketVersioning", ({ ok, note }, value) =>
      value === "enabled"
        ? ok("the bucket keeps older versions: what is deleted or overwritten can be had back")
        : note(
            `the bucket keeps no older versions (${value})`,
            "turn versioning on, or object lock: they survive whoever gets these credentials",
          ),
    ),
    judge("lock", lock, "allow s3:GetBucketObjectLockConfiguration", ({ ok, note }, value) => {
      if (value === undefined)
        return note("objects are not locked", "an object lock keeps backups from everybody for its time");
      if (value.mode === undefined)
        return note("the bucket can lock objects, and does not by default", "set a default retention");
      return ok(
        `every object is locked for ${value.days ?? "?"} days (${value.mode}); what is expired earlier goes then`,
      );
    }),
    judge("lifecycle", lifecycle, "allow s3:GetLifecycleConfiguration", ({ ok, note, warning }, value) => {
      if (value.expiresAfterDays.length > 0) {
        const days = Math.min(...value.expiresAfterDays);
        return warning(
          `a rule of the bucket removes objects after ${days} days, whatever retention says, and data that manifests still name`,
          "take the expiration out of the rules for this prefix, and let retention do it",
        );
      }
      if (value.abortsUploadsAfterDays !== undefined) {
        return ok(`the bucket gives up unfinished uploads after ${value.abortsUploadsAfterDays} days`);
      }
      return note(
        "no rule gives up unfinished uploads; the daemon sweeps those that it left",
        "a rule AbortIncompleteMultipartUpload for the prefix costs nothing",
      );
    }),
    judge("ranged-read", rangedRead, "allow s3:GetObject", ({ ok, warning }, value) =>
      value
        ? ok("a part of an object can be read")
        : warning("a range that is asked for is not what comes", "look at the gateway"),
    ),
    judge("checksum-checked", checksumChecked, "allow s3:PutObject", ({ ok, note }, value) =>
      value
        ? ok("bytes that do not fit their checksum are refused")
        : note("bytes that do not fit their checksum are taken; what is stored is read back all the same"),
    ),
    judge(
      "upload-abort",
      uploadsAborted,
      "allow s3:AbortMultipartUpload and s3:ListBucketMultipartUploads",
      ({ ok, warning }, value) =>
        value
          ? ok("an upload that is given up is gone")
          : warning(
              "an upload that was given up is still there, and costs its room",
              "set a rule AbortIncompleteMultipartUpload",
            ),
    ),
  ];
}

function judge<T>(
  check: string,
  told: Known<T>,
  allow: string,
  known: (to: ReturnType<typeof report>, value: T) => Finding,
): Finding {
  const to = report("store", check);
  if (told.known) return known(to, told.value);
  return to.unknown(`${check}: ${told.why}`, told.denied ? allow : undefined);
}

/** Removes what was written, which is an examination itself: of credentials that may delete, or may not. */
async function tidy(
  { store, expires, bucket }: StoreExamination,
  probe: string,
  found: readonly Finding[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { ok, note, unknown, warning, problem } = report("store", "deletes");
  let names: string[];
  try {
    names = (await Array.fromAsync(store.list(probe, signal))).map(({ name }) => name);
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (!isFault(error)) throw error;
    // What kept it from being written keeps it from being listed.
    return found.some(({ check, severity }) => check === "access" && severity === "problem")
      ? []
      : [unknown(`whether anything is left below ${probe} is not known: ${error.message}`)];
  }
  if (names.length === 0) return [];
  const left: string[] = [];
  let why: Fault | undefined;
  for (const name of names) {
    const fault = await refusal(() => store.remove(name, signal), signal);
    if (fault === undefined && (await store.head(name, signal)) === undefined) continue;
    left.push(name);
    why ??= fault;
  }
  if (left.length === 0) {
    if (expires || bucket === undefined) return [ok("what was written was removed again, as expiry has to")];
    if (found.some(({ check, severity }) => ["versioning", "lock"].includes(check) && severity === "ok")) {
      return [ok("what was written was removed again, and the bucket keeps older versions of it")];
    }
    const says = "these credentials may delete, and nothing here needs it: whoever has them can remove every backup";
    return [warning(says, "deny them s3:DeleteObject, and expire with others: etcd-lifeboat expire --yes")];
  }
  const remains = note(
    `left below ${probe}: ${left.map((name) => name.slice(probe.length)).join(", ")}`,
    "remove it by hand with credentials that may, or let a rule of the bucket do it; it harms nothing",
  );
  const says = `what was written cannot be removed: ${why?.message ?? "it is still there"}`;
  if (why?.code === "store-locked")
    return [ok(`the store keeps what is written under a lock: ${why.message}`), remains];
  if (expires && (why === undefined || why.code === "store-denied")) {
    return [
      problem("store-denied", says, "retention.expire needs s3:DeleteObject: allow it, or turn expire off"),
      remains,
    ];
  }
  if (why?.code === "store-denied") return [ok("these credentials may not delete, which is best"), remains];
  return [unknown(says), remains];
}
