import { expect, test } from "vitest";
import { examineEtcd } from "../../src/doctor/etcd.ts";
import type { Finding } from "../../src/doctor/finding.ts";
import { faultsOf } from "../../src/doctor/patches.ts";
import type { Certificate, DiskHistogram } from "../../src/etcd/etcd.ts";
import { Fault } from "../../src/faults.ts";
import { steeredClock } from "../fakes/clock.ts";
import { fakeEtcd, type FakeEtcd, type FakeScript } from "../fakes/etcd.ts";
import { calm } from "../snapshot/bytes.ts";

const now = Date.UTC(2026, 2, 1);
const dayMs = 86_400_000;
const certificate: Certificate = {
  subject: "CN=etcd",
  notBeforeMs: now - dayMs,
  notAfterMs: now + 300 * dayMs,
  names: ["etcd1", "10.0.0.11"],
};

/** A hundred times within the bound in milliseconds, and none above it. */
function histogram(boundMs: number): DiskHistogram {
  const bounds = [1, 2, 4, 8, 16, 32, 64, 128, 256].map((ms) => ms / 1000);
  const buckets = [...bounds, Infinity].map((le) => ({ le, count: le * 1000 >= boundMs ? 100 : 0 }));
  return { count: 100, seconds: (100 * boundMs) / 1000, buckets };
}

/** Nothing is wrong with it. */
function sound(): FakeScript {
  return {
    version: "3.6.14",
    certificates: { client: certificate, ca: [{ ...certificate, subject: "CN=ca", names: [] }] },
    members: ["etcd1", "etcd2", "etcd3"].map((name) => ({
      name,
      url: `https://${name}.invalid:2379`,
      certificate,
      metrics: { walFsync: histogram(4), backendCommit: histogram(16) },
    })),
  };
}

async function examine(etcd: FakeEtcd): Promise<readonly Finding[]> {
  const observe = { endpoints: [], overrides: new Map(), memberTimeoutMs: 500 };
  const { findings } = await examineEtcd({ etcd, observe, clock: steeredClock(now) }, calm);
  expect(etcd.open()).toBe(0);
  return findings;
}

test("a sound cluster: everything is looked at, and all of it is as it should be", async () => {
  const findings = await examine(fakeEtcd(sound()));
  expect(findings.filter(({ severity }) => severity !== "ok")).toEqual([]);
  expect(new Set(findings.map(({ check }) => check))).toEqual(
    new Set(["members", "rights", "certificate", "version", "quota", "disk", "alarms", "v2"]),
  );
  expect(findings.map(({ message }) => message)).toEqual(
    expect.arrayContaining([
      "3 of 3 voters answer, 2 are a majority: 1 more may fail",
      "the configured user may make these calls: MemberList, Status, Range, Alarm, HashKV, Snapshot",
      "the server certificate of etcd2 (CN=etcd) until 2026-12-26, for etcd1, 10.0.0.11",
      "etcd3: p99 since it started: fsync of the WAL 4.0 ms, commit 15.9 ms",
    ]),
  );
});

test("what is examined neither hashes a database nor reads more than the first bytes of a snapshot", async () => {
  const etcd = fakeEtcd(sound());
  let batches = 0;
  etcd.member("etcd2").snapshot = async function* () {
    for (;;) {
      batches += 1;
      yield [{ remainingBytes: 1n, blob: new Uint8Array(10), version: "" }];
    }
  };
  await examine(etcd);
  expect(batches).toBe(1);
  expect(etcd.calls.filter((call) => /^(hashKv|snapshot)/.test(call))).toEqual(["hashKv etcd2", "snapshot etcd2"]);
});

interface Case {
  readonly name: string;
  readonly make: (etcd: FakeEtcd) => void;
  readonly check: string;
  readonly severity: Finding["severity"];
  readonly says: RegExp;
  readonly helps?: RegExp;
  readonly code?: string;
}

const denied = new Fault("etcd-auth", "the user plain lacks the root role", { hint: "grant it" });
const cases: readonly Case[] = [
  {
    name: "a client certificate that has expired",
    make: ({ script }) => {
      script.certificates = { client: { ...certificate, notAfterMs: now - dayMs }, ca: [] };
    },
    check: "certificate",
    severity: "problem",
    says: /^the client certificate \(CN=etcd\) expired on 2026-02-28$/,
    helps: /cluster\.tls\.cert/,
    code: "etcd-tls",
  },
  {
    name: "a CA that soon ends",
    make: ({ script }) => {
      script.certificates = { client: undefined, ca: [{ ...certificate, notAfterMs: now + 5 * dayMs }] };
    },
    check: "certificate",
    severity: "warning",
    says: /^the CA certificate .* expires in 5 days, on 2026-03-06$/,
    helps: /cluster\.tls\.ca/,
  },
  {
    name: "a certificate of tomorrow",
    make: (etcd) => void (etcd.member("etcd2").certificate = { ...certificate, notBeforeMs: now + dayMs }),
    check: "certificate",
    severity: "problem",
    says: /etcd2 .* begins only on 2026-03-02/,
    helps: /timedatectl/,
    code: "etcd-tls",
  },
  {
    name: "a server certificate without a subject alternative name",
    make: (etcd) => void (etcd.member("etcd2").certificate = { ...certificate, names: [] }),
    check: "certificate",
    severity: "warning",
    says: /carries no subject alternative name/,
  },
  {
    name: "own files that cannot be read",
    make: ({ script }) => void (script.certificates = new Fault("etcd-tls", "cannot read /ca.crt: ENOENT")),
    check: "certificate",
    severity: "problem",
    says: /cannot read \/ca\.crt/,
    code: "etcd-tls",
  },
  ...(["linearizableRead", "alarms", "hashKv", "snapshot"] as const).map((call) => ({
    name: `a user that may not make the call ${call}`,
    make: (etcd: FakeEtcd) => {
      // The cluster can be looked at with fewer rights than a backup needs.
      let asked = 0;
      const later = (): Fault | undefined => ((asked += 1) > 1 ? denied : undefined);
      for (const { name } of etcd.script.members) {
        etcd.member(name).fail = { [call]: call === "linearizableRead" ? later : denied };
      }
    },
    check: "rights",
    severity: "problem" as const,
    says: /^(Range|Alarm|HashKV|Snapshot): the user plain lacks the root role$/,
    helps: /^grant it$/,
    code: "etcd-auth",
  })),
  {
    name: "an alarm for want of space",
    make: ({ script }) => void (script.alarms = [{ memberId: 2n, kind: "NOSPACE" }]),
    check: "alarms",
    severity: "problem",
    says: /^NOSPACE of etcd2/,
    helps: /etcdctl alarm disarm/,
    code: "etcd-refused",
  },
  {
    name: "an alarm for corruption",
    make: ({ script }) => void (script.alarms = [{ memberId: 2n, kind: "CORRUPT" }]),
    check: "alarms",
    severity: "problem",
    says: /^CORRUPT of etcd2/,
    code: "etcd-refused",
  },
  {
    name: "a quota that is nearly used up",
    make: (etcd) => void (etcd.member("etcd3").status = { dbBytes: 900 * 2 ** 20, quotaBytes: 1000 * 2 ** 20 }),
    check: "quota",
    severity: "warning",
    says: /^etcd3 uses 900 MiB of 1000 MiB$/,
  },
  {
    name: "a database with much room inside",
    make: (etcd) => {
      etcd.member("etcd3").status = { dbBytes: 400 * 2 ** 20, dbInUseBytes: 2 ** 20, quotaBytes: 1000 * 2 ** 20 };
    },
    check: "quota",
    severity: "note",
    says: /of which 1 MiB are in use/,
    helps: /etcdctl defrag/,
  },
  {
    name: "a quota that nobody tells",
    make: (etcd) => {
      etcd.member("etcd3").status = { quotaBytes: undefined };
      etcd.member("etcd3").metrics = null;
    },
    check: "quota",
    severity: "unknown",
    says: /^etcd3 .* tells no quota$/,
    helps: /metricsUrl/,
  },
  {
    name: "a patch level with known faults",
    make: (etcd) => void (etcd.member("etcd3").status = { version: "3.5.1" }),
    check: "version",
    severity: "warning",
    says: /^etcd3 runs 3\.5\.1, which has known faults: .*, and \d+ more$/,
    helps: /upgrade to 3\.5\.33 or later/,
  },
  {
    name: "a minor without patches",
    make: (etcd) => void (etcd.member("etcd3").status = { version: "3.3.27" }),
    check: "version",
    severity: "warning",
    says: /gets no patches any more/,
  },
  {
    name: "a version that is none",
    make: (etcd) => void (etcd.member("etcd3").status = { version: "future" }),
    check: "version",
    severity: "unknown",
    says: /says that it is future/,
  },
  {
    name: "members of two minors",
    make: (etcd) => void (etcd.member("etcd3").status = { version: "3.5.33" }),
    check: "members",
    severity: "warning",
    says: /^members are of different minors: 3\.5 and 3\.6$/,
  },
  {
    name: "a slow disk",
    make: (etcd) => void (etcd.member("etcd1").metrics = { walFsync: histogram(64), backendCommit: histogram(16) }),
    check: "disk",
    severity: "warning",
    says: /^etcd1: p99 since it started: fsync of the WAL 6\d\.\d ms/,
    helps: /a disk of its own/,
  },
  {
    name: "metrics that cannot be read",
    make: (etcd) => void (etcd.member("etcd1").metrics = null),
    check: "disk",
    severity: "unknown",
    says: /cannot be read from its metrics/,
    helps: /metricsUrl/,
  },
  {
    name: "an advertised URL that another member answers",
    make: (etcd) => void (etcd.member("etcd3").answeredBy = "etcd2"),
    check: "members",
    severity: "problem",
    says: /advertised by etcd3, is answered by member 2, not 3/,
    helps: /--advertise-client-urls/,
    code: "member-mismatch",
  },
  {
    name: "a member that is down",
    make: (etcd) => void (etcd.member("etcd3").down = true),
    check: "members",
    severity: "problem",
    says: /^etcd3: .*cannot be reached/,
    code: "etcd-unreachable",
  },
  {
    name: "no quorum",
    make: ({ script }) => void (script.quorum = false),
    check: "members",
    severity: "problem",
    says: /^no quorum: /,
    code: "etcd-unreachable",
  },
  {
    name: "an even number of voters",
    make: ({ script }) => void script.members.push({ name: "etcd4", certificate, metrics: { walFsync: histogram(1) } }),
    check: "members",
    severity: "note",
    says: /^4 voters survive 1, as 3 do/,
  },
  {
    name: "v2 content",
    make: (etcd) => {
      for (const { name } of etcd.script.members) etcd.member(name).v2 = { state: "yes", why: "it has keys" };
    },
    check: "v2",
    severity: "warning",
    says: /which is in no backup: it has keys/,
  },
  {
    name: "v2 content that nobody can tell of",
    make: (etcd) => {
      for (const { name } of etcd.script.members) etcd.member(name).v2 = { state: "unknown", why: "it is not served" };
    },
    check: "v2",
    severity: "unknown",
    says: /it is not served/,
    helps: /etcdutl check v2store/,
  },
];

test.each(cases)("$name is found, with what helps", async ({ make, check, severity, says, helps, code }) => {
  const etcd = fakeEtcd(sound());
  make(etcd);
  const findings = await examine(etcd);
  const found = findings.find((one) => one.check === check && one.severity === severity && says.test(one.message));
  expect(found, JSON.stringify(findings, null, 1)).toBeDefined();
  expect(found?.code).toBe(code);
  expect(found?.help ?? "").toMatch(helps ?? /^/);
});

test("a cluster that cannot be seen at all is one finding, with the fault's own remedy", async () => {
  const etcd = fakeEtcd(sound());
  for (const { name } of etcd.script.members) etcd.member(name).fail = { members: denied };
  const findings = await examine(etcd);
  expect(findings.filter(({ severity }) => severity === "problem")).toEqual([
    {
      area: "etcd",
      check: "members",
      severity: "problem",
      message: denied.message,
      help: "grant it",
      code: "etcd-auth",
    },
  ]);
});

test.each([
  ["3.2.0", 3, undefined],
  ["3.4.3", 9, "3.4.42"],
  ["3.4.45", 0, "3.4.42"],
  ["3.5.0", 12, "3.5.33"],
  ["3.5.33", 0, "3.5.33"],
  ["3.6.14", 0, "3.6.14"],
  ["3.7.0", 1, "3.7.1"],
  ["3.7.1", 0, "3.7.1"],
  ["3.8.0", 0, "3.8.0"],
])("%s has at least %i known faults and is mended by %s", (version, least, mended) => {
  const faults = faultsOf(version);
  expect(faults?.known.length ?? 0).toBeGreaterThanOrEqual(least);
  expect(faults?.known.length === 0).toBe(least === 0);
  expect(faults?.mended).toBe(mended);
});
