import { expect, test } from "vitest";
import type { Finding } from "../../src/doctor/finding.ts";
import { examineStore, type StoreExamination } from "../../src/doctor/store.ts";
import { Fault } from "../../src/faults.ts";
import type { BucketTraits, Store } from "../../src/store/store.ts";
import { steeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";

const now = Date.UTC(2026, 2, 1);

/** A bucket as it should be: it keeps versions, and nobody may delete from it. */
const best: BucketTraits = {
  versioning: { known: true, value: "enabled" },
  lock: { known: true, value: { mode: "COMPLIANCE", days: 7 } },
  lifecycle: { known: true, value: { abortsUploadsAfterDays: 3, expiresAfterDays: [] } },
  rangedRead: { known: true, value: true },
  checksumChecked: { known: true, value: true },
  uploadsAborted: { known: true, value: true },
};

interface Case {
  readonly store: MemoryStore;
  traits: BucketTraits | undefined;
  expires: boolean;
  /** The store as the doctor sees it. */
  seen: Store;
}

function sound(): Case {
  const store = memoryStore(() => now);
  return { store, traits: best, expires: false, seen: store };
}

async function examine({ seen, traits, expires }: Case): Promise<readonly Finding[]> {
  const deps: StoreExamination = {
    store: seen,
    bucket: traits === undefined ? undefined : async () => traits,
    clock: steeredClock(now),
    newId: () => "01JQ000000000000000000000A",
    expires,
  };
  return await examineStore(deps, calm);
}

test("a bucket as it should be: all is examined and nothing is left", async () => {
  const one = sound();
  await one.store.create("lineages/precious", Buffer.from("x"), calm);
  const findings = await examine(one);
  expect(findings.filter(({ severity }) => severity !== "ok")).toEqual([]);
  expect(findings.map(({ check }) => check)).toEqual([
    "clock",
    "access",
    "conditional",
    "conditional-upload",
    "checksum",
    "listing",
    "versioning",
    "lock",
    "lifecycle",
    "ranged-read",
    "checksum-checked",
    "upload-abort",
    "deletes",
  ]);
  expect([...one.store.objects.keys()]).toEqual(["lineages/precious"]);
  const touched = one.store.calls.filter(({ name }) => name !== "" && name !== "lineages/precious");
  expect(touched.filter(({ name }) => !name.startsWith("doctor/01JQ000000000000000000000A/"))).toEqual([]);
});

const cases: readonly {
  readonly name: string;
  readonly make: (one: Case) => void;
  readonly check: string;
  readonly severity: Finding["severity"];
  readonly says: RegExp;
  readonly code?: string;
  /** Names that stay. */
  readonly left?: number;
}[] = [
  {
    name: "a store that overwrites",
    make: (one) => {
      const { store } = one;
      const create: Store["create"] = async (name, body) =>
        void store.objects.set(name, { bytes: Uint8Array.from(body), modifiedMs: now });
      one.seen = { ...store, create };
    },
    check: "conditional",
    severity: "problem",
    says: /^an object that exists is overwritten$/,
    code: "store-refused",
  },
  {
    name: "a store that overwrites what is uploaded in parts",
    make: (one) => {
      const { store } = one;
      const upload: Store["upload"] = async (name, source, signal) => {
        store.objects.delete(name);
        return await store.upload(name, source, signal);
      };
      one.seen = { ...store, upload };
    },
    check: "conditional-upload",
    severity: "problem",
    says: /uploaded in parts is overwritten/,
    code: "store-refused",
  },
  {
    name: "credentials that may not write",
    make: ({ store }) => void store.trouble({ method: "create", fail: new Fault("store-denied", "no PutObject") }),
    check: "access",
    severity: "problem",
    says: /^no PutObject$/,
    code: "store-denied",
  },
  {
    name: "a store that cannot be reached",
    make: ({ store }) => {
      for (const method of ["now", "list"] as const) {
        store.trouble({ method, fail: new Fault("store-unreachable", "no way", { hint: "ping it" }) });
      }
    },
    check: "access",
    severity: "problem",
    says: /^no way$/,
    code: "store-unreachable",
  },
  {
    name: "a store without checksums over whole objects",
    make: (one) => {
      const { store } = one;
      one.seen = {
        ...store,
        head: async (name, signal) => {
          const head = await store.head(name, signal);
          return head === undefined ? undefined : { ...head, crc32c: undefined };
        },
      };
    },
    check: "checksum",
    severity: "note",
    says: /vouches for no checksum/,
  },
  {
    name: "a store that keeps other bytes",
    make: (one) => {
      const { store } = one;
      one.seen = {
        ...store,
        head: async (name, signal) => {
          const head = await store.head(name, signal);
          return head === undefined ? undefined : { ...head, crc32c: 1 };
        },
      };
    },
    check: "checksum",
    severity: "problem",
    says: /has another checksum than ours/,
    code: "store-damaged",
  },
  {
    name: "a listing that lags",
    make: (one) => {
      const { store } = one;
      let lists = 0;
      one.seen = {
        ...store,
        list: (range, signal) => ((lists += 1) === 1 ? store.list("nothing/", signal) : store.list(range, signal)),
      };
    },
    check: "listing",
    severity: "problem",
    says: /^what was just written is not listed/,
    code: "store-refused",
  },
  {
    name: "clocks that differ",
    make: (one) => void (one.seen = { ...one.store, now: async () => now - 600_000 }),
    check: "clock",
    severity: "problem",
    says: /600 s ahead of the store's/,
    code: "clock-skewed",
  },
  {
    name: "a store without a clock",
    make: (one) => void (one.seen = { ...one.store, now: async () => undefined }),
    check: "clock",
    severity: "unknown",
    says: /does not tell its time/,
  },
  {
    name: "credentials that may delete",
    make: (one) => {
      one.traits = { ...best, versioning: { known: true, value: "off" }, lock: { known: true, value: undefined } };
    },
    check: "deletes",
    severity: "warning",
    says: /whoever has them can remove every backup/,
  },
  {
    name: "credentials that may not delete, which is said to be best, with what is left",
    make: ({ store }) => void store.trouble({ method: "remove", fail: new Fault("store-denied", "no DeleteObject") }),
    check: "deletes",
    severity: "note",
    says: /^left below doctor\/01JQ000000000000000000000A\/: create, large$/,
    left: 2,
  },
  {
    name: "credentials that may not delete where retention has to",
    make: (one) => {
      one.expires = true;
      one.store.trouble({ method: "remove", fail: new Fault("store-denied", "no DeleteObject") });
    },
    check: "deletes",
    severity: "problem",
    says: /^what was written cannot be removed: no DeleteObject$/,
    code: "store-denied",
    left: 2,
  },
  {
    name: "objects under a lock",
    make: ({ store }) => void store.trouble({ method: "remove", fail: new Fault("store-locked", "until May") }),
    check: "deletes",
    severity: "ok",
    says: /keeps what is written under a lock: until May/,
    left: 2,
  },
  {
    name: "a bucket without versions",
    make: (one) => void (one.traits = { ...best, versioning: { known: true, value: "off" } }),
    check: "versioning",
    severity: "note",
    says: /keeps no older versions \(off\)/,
  },
  {
    name: "a bucket without locks",
    make: (one) => void (one.traits = { ...best, lock: { known: true, value: undefined } }),
    check: "lock",
    severity: "note",
    says: /not locked/,
  },
  {
    name: "a bucket that could lock",
    make: (one) => void (one.traits = { ...best, lock: { known: true, value: { mode: undefined, days: undefined } } }),
    check: "lock",
    severity: "note",
    says: /does not by default/,
  },
  {
    name: "a rule that removes objects",
    make: (one) => {
      const value = { abortsUploadsAfterDays: 1, expiresAfterDays: [90, 30] };
      one.traits = { ...best, lifecycle: { known: true, value } };
    },
    check: "lifecycle",
    severity: "warning",
    says: /removes objects after 30 days/,
  },
  {
    name: "no rule for unfinished uploads",
    make: (one) => {
      const value = { abortsUploadsAfterDays: undefined, expiresAfterDays: [] };
      one.traits = { ...best, lifecycle: { known: true, value } };
    },
    check: "lifecycle",
    severity: "note",
    says: /no rule gives up unfinished uploads/,
  },
  ...(["ranged-read", "upload-abort"] as const).map((check) => ({
    name: `${check} that does not work`,
    make: (one: Case) =>
      void (one.traits = {
        ...best,
        [check === "ranged-read" ? "rangedRead" : "uploadsAborted"]: { known: true, value: false },
      }),
    check,
    severity: "warning" as const,
    says: /./,
  })),
  {
    name: "checksums that are ignored",
    make: (one) => void (one.traits = { ...best, checksumChecked: { known: true, value: false } }),
    check: "checksum-checked",
    severity: "note",
    says: /are taken/,
  },
  {
    name: "something that these credentials may not ask",
    make: (one) =>
      void (one.traits = {
        ...best,
        lifecycle: { known: false, denied: true, why: "these credentials may not ask for it" },
      }),
    check: "lifecycle",
    severity: "unknown",
    says: /^lifecycle: these credentials may not ask for it$/,
  },
];

test.each(cases)("$name", async ({ make, check, severity, says, code, left = 0 }) => {
  const one = sound();
  make(one);
  const findings = await examine(one);
  const found = findings.find((each) => each.check === check && each.severity === severity && says.test(each.message));
  expect(found, JSON.stringify(findings, null, 1)).toBeDefined();
  expect(found?.code).toBe(code);
  expect(
    severity === "ok" || check === "clock" || check === "checksum" || found?.help !== undefined || severity === "note",
  ).toBe(true);
  expect(one.store.objects.size).toBe(left);
});

test("a directory, which is no bucket, may delete", async () => {
  const one = sound();
  one.traits = undefined;
  const findings = await examine(one);
  expect(findings.filter(({ severity }) => severity !== "ok")).toEqual([]);
  expect(findings.at(-1)).toMatchObject({ check: "deletes", severity: "ok" });
});

test("what fails halfway is tidied up all the same", async () => {
  const one = sound();
  one.store.trouble({ method: "read", fail: new Fault("store-unreachable", "cut off") });
  const findings = await examine(one);
  expect(findings.find(({ check }) => check === "access")).toMatchObject({ severity: "problem", message: "cut off" });
  expect(one.store.objects.size).toBe(0);
});
