import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatBackupName,
  formatStamp,
  goneName,
  isScheduleName,
  isSnapshotObject,
  isUlid,
  manifestName,
  parseBackupName,
  parseObjectName,
  parseStamp,
  pinName,
  proofName,
  snapshotObjects,
  snapshotOf,
  type ProofName,
} from "../../src/repository/names.ts";
import { isObjectName } from "../../src/store/store.ts";
import { backupId, lineageId, snapshotId } from "./sample.ts";

const crockford = Array.from("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
const ulids = fc
  .tuple(
    fc.constantFrom(...crockford.slice(0, 8)),
    fc.array(fc.constantFrom(...crockford), { minLength: 25, maxLength: 25 }),
  )
  .map(([first, rest]) => first + rest.join(""));
const seconds = fc.integer({ min: 0, max: 4_102_444_800 }).map((second) => second * 1000);
const schedules = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,30}$/);

const proofs = fc.constantFrom<readonly ["hashkv", "proven" | "sealed"] | readonly ["boot", "passed" | "failed"]>(
  ["hashkv", "proven"],
  ["hashkv", "sealed"],
  ["boot", "passed"],
  ["boot", "failed"],
);
const backups = fc.oneof(
  fc.tuple(seconds, schedules).map(([timeMs, schedule]) => formatBackupName({ kind: "slot", timeMs, schedule })),
  fc.tuple(seconds, ulids).map(([timeMs, id]) => formatBackupName({ kind: "demand", timeMs, id })),
);

describe("names", () => {
  test("every backup name, manifest name and object name comes back as it was", () => {
    fc.assert(
      fc.property(ulids, ulids, seconds, schedules, fc.boolean(), (lineage, id, timeMs, schedule, slot) => {
        const name = slot ? ({ kind: "slot", timeMs, schedule } as const) : ({ kind: "demand", timeMs, id } as const);
        const backup = formatBackupName(name);
        expect(parseBackupName(backup)).toEqual(name);
        expect(parseObjectName(manifestName(lineage, backup))).toEqual({ kind: "manifest", lineage, backup, name });
        expect(isObjectName(manifestName(lineage, backup))).toBe(true);
        for (const object of Object.values(snapshotObjects(lineage, id, slot))) {
          expect(isObjectName(object) && isSnapshotObject(lineage, object)).toBe(true);
          expect(parseObjectName(object)).toBeUndefined();
        }
      }),
    );
  });

  test("every proof's name comes back as it was, and says what no other name says", () => {
    fc.assert(
      fc.property(ulids, ulids, backups, proofs, (lineage, id, backup, [kind, verdict]) => {
        const proof = { backup, id, kind, verdict } as ProofName;
        const name = proofName(lineage, proof);
        expect(parseObjectName(name)).toEqual({ kind: "proof", lineage, proof });
        expect(isObjectName(name)).toBe(true);
        expect(isSnapshotObject(lineage, name)).toBe(false);
      }),
    );
  });

  test("every pin's and every mark's name comes back as it was, and numbers have one spelling", () => {
    fc.assert(
      fc.property(ulids, ulids, backups, fc.integer({ min: 1, max: 999_999 }), (lineage, snapshot, backup, number) => {
        const pin = pinName(lineage, backup, number);
        const mark = goneName(lineage, snapshot);
        expect(parseObjectName(pin)).toEqual({ kind: "pin", lineage, backup, number });
        expect(parseObjectName(mark)).toEqual({ kind: "gone", lineage, snapshot });
        expect([pin, mark].every(isObjectName)).toBe(true);
        expect([pin, mark].some((name) => isSnapshotObject(lineage, name))).toBe(false);
        expect(parseObjectName(pin.replace(`.${number}.json`, `.0${number}.json`))).toBeUndefined();
        for (const object of Object.values(snapshotObjects(lineage, snapshot, true)))
          expect(snapshotOf(object)).toBe(snapshot);
      }),
    );
  });

  test("a proof's name with any one character changed is foreign, or formats to the same text", () => {
    fc.assert(
      fc.property(
        ulids,
        ulids,
        backups,
        proofs,
        fc.nat(),
        fc.string({ unit: "binary", maxLength: 2 }),
        (lineage, id, backup, [kind, verdict], at, put) => {
          const name = proofName(lineage, { backup, id, kind, verdict } as ProofName);
          const where = at % name.length;
          const changed = name.slice(0, where) + put + name.slice(where + 1);
          const parsed = parseObjectName(changed);
          if (parsed?.kind === "proof") expect(proofName(parsed.lineage, parsed.proof)).toBe(changed);
          else expect(parsed).toBeUndefined();
        },
      ),
      { numRuns: 2000 },
    );
  });

  test.each([
    `${backupId}.hashkv.proven.${snapshotId}`,
    `${backupId}.hashkv.passed.${snapshotId}.json`,
    `${backupId}.boot.proven.${snapshotId}.json`,
    `${backupId}.hashkv.PROVEN.${snapshotId}.json`,
    `${backupId}.drill.passed.${snapshotId}.json`,
    `${backupId}.hashkv..${snapshotId}.json`,
    `${backupId}.hashkv.proven.sealed.${snapshotId}.json`,
    `${backupId}.json.hashkv.proven.${snapshotId}.json`,
    `${backupId}/hashkv.proven.${snapshotId}.json`,
    `${backupId}.hashkv.proven.${snapshotId.toLowerCase()}.json`,
    `${backupId}.hashkv.proven.${snapshotId}.json.gone`,
    `${backupId}.hashkv.proven.json`,
    `20260230T000000Z.slot.hourly.hashkv.proven.${snapshotId}.json`,
    `.hashkv.proven.${snapshotId}.json`,
  ])("%j is no proof", (file) => {
    expect(parseObjectName(`lineages/${lineageId}/proofs/${file}`)).toBeUndefined();
  });

  test("names sort by time", () => {
    fc.assert(
      fc.property(seconds, seconds, (a, b) => {
        expect(formatStamp(a) < formatStamp(b)).toBe(a < b);
      }),
    );
  });

  test.each([
    `lineages/${lineageId}/../${lineageId}/lineage.json`,
    `lineages/${lineageId.toLowerCase()}/lineage.json`,
    `lineages/${lineageId}/lineage.json\n`,
    `/lineages/${lineageId}/lineage.json`,
    `lineages/8${lineageId.slice(1)}/lineage.json`,
    `lineages/${lineageId.slice(1)}/lineage.json`,
    `lineages/${lineageId.slice(0, 25)}U/lineage.json`,
    `lineages/${lineageId}/backups/20260230T000000Z.slot.hourly.json`,
    `lineages/${lineageId}/backups/20260101T240000Z.slot.hourly.json`,
    `lineages/${lineageId}/backups/20260101T235960Z.slot.hourly.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.hour.ly.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.Hourly.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.-hourly.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot..json`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.hourly.json.gone`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.hourly`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.hourly\0.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.slot.${"a".repeat(32)}.json`,
    `lineages/${lineageId}/backups/٢٠٢٦٠١٠١T000000Z.slot.hourly.json`,
    `lineages/${lineageId}/backups/20260101T000000z.slot.hourly.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.demand.${snapshotId.toLowerCase()}.json`,
    `lineages/${lineageId}/backups/20260101T000000Z.demand.x.json`,
    `lineages/${lineageId}/backups/sub/20260101T000000Z.slot.hourly.json`,
    "",
  ])("%j is foreign", (name) => {
    expect(parseObjectName(name)).toBeUndefined();
  });

  test("anything at all is parsed without an error, and what is accepted formats to the same text", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^\d{8}T\d{6}Z\.(slot|demand)\.\w*$/)),
        (text) => {
          const name = parseBackupName(text);
          expect(name === undefined || formatBackupName(name) === text).toBe(true);
          expect(isUlid(`${text} `)).toBe(false);
          expect(isScheduleName(`${text}/`)).toBe(false);
        },
      ),
    );
  });

  test.each(["2026-01-01T00:00:00Z", "20260101T000000", "20260101T0000000Z", "00000101T000000Z ", "20261301T000000Z"])(
    "%j is no stamp",
    (text) => {
      expect(parseStamp(text)).toBeUndefined();
    },
  );

  test("a name that is no id never becomes part of a path", () => {
    expect(() => manifestName("../x", "20260101T000000Z.slot.hourly")).toThrow(/no id/);
    expect(() => manifestName(lineageId, "../../repository")).toThrow(/no backup id/);
    expect(() => snapshotObjects(lineageId, "x/y", false)).toThrow(/no id/);
    const proof = { kind: "hashkv", verdict: "proven" } as const;
    expect(() => proofName("..", { ...proof, backup: backupId, id: snapshotId })).toThrow(/no id/);
    expect(() => proofName(lineageId, { ...proof, backup: "../x", id: snapshotId })).toThrow(/no backup id/);
    expect(() => proofName(lineageId, { ...proof, backup: backupId, id: "../x" })).toThrow(/no id/);
  });

  test("a data object belongs to its own lineage only", () => {
    expect(isSnapshotObject(lineageId, `lineages/${snapshotId}/snapshots/${snapshotId}.db.zst`)).toBe(false);
    expect(isSnapshotObject(lineageId, "repository.json")).toBe(false);
    expect(isSnapshotObject(lineageId, `lineages/${lineageId}/snapshots/${snapshotId}.db.zst.gone`)).toBe(false);
  });
});
