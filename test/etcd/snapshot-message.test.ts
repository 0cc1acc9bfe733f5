import fc from "fast-check";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import { protoText } from "../../src/etcd/proto.ts";
import { readSnapshotMessage } from "../../src/etcd/snapshot-message.ts";
import { isFault } from "../../src/faults.ts";

const type = protobuf.parse(protoText).root.lookupType("etcdserverpb.SnapshotResponse");

test("every message that protobufjs writes is read as it was written, the blob without a copy", () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
      fc.uint8Array({ maxLength: 5000 }),
      fc.constantFrom("", "3.6.0", "3.7.0-alpha.0"),
      fc.boolean(),
      (remaining, blob, version, header) => {
        const message = type.fromObject({ remainingBytes: remaining.toString(), blob, version });
        if (header) Object.assign(message, { header: { clusterId: 1, memberId: 2, revision: 3 } });
        const bytes = type.encode(message).finish();
        const read = readSnapshotMessage(bytes);
        expect(read.remainingBytes).toBe(remaining);
        expect(Buffer.from(read.blob).equals(Buffer.from(blob))).toBe(true);
        expect(read.version).toBe(version);
        if (blob.length > 0) expect(read.blob.buffer).toBe(bytes.buffer);
      },
    ),
  );
});

test("any bytes are either a message or snapshot-broken", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        const { remainingBytes, blob } = readSnapshotMessage(bytes);
        expect(remainingBytes >= 0n && remainingBytes < 2n ** 63n).toBe(true);
        expect(blob.length).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        expect(isFault(error, "snapshot-broken")).toBe(true);
      }
    }),
    { numRuns: 5000 },
  );
});

test.each([
  ["a length beyond the message", [0x1a, 0x7f, 0x00]],
  ["a length of 4 GiB and more", [0x1a, 0xff, 0xff, 0xff, 0xff, 0x7f]],
  ["a negative size", [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
  ["a number of more than 64 bits", [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
  ["a number without end", [0x10, ...Array.from({ length: 11 }, () => 0xff)]],
  ["an end within a number", [0x10, 0xff]],
  ["field number 0", [0x02, 0x00]],
  ["a group", [0x2b]],
  ["a blob as a number", [0x18, 0x01]],
  ["a size as bytes", [0x12, 0x01, 0x00]],
  ["a version with control characters", [0x22, 0x02, 0x0a, 0x1b]],
  ["an endless version", [0x22, 0x41, ...Array.from({ length: 0x41 }, () => 0x33)]],
])("%s is snapshot-broken", (_name, bytes) => {
  expect(() => readSnapshotMessage(Uint8Array.from(bytes))).toThrow(
    expect.objectContaining({ code: "snapshot-broken" }),
  );
});

test("fields that are not known are skipped", () => {
  const bytes = [0x28, 0x05, 0x31, 1, 2, 3, 4, 5, 6, 7, 8, 0x3d, 1, 2, 3, 4, 0x42, 0x01, 0x09, 0x10, 0x2a];
  expect(readSnapshotMessage(Uint8Array.from(bytes)).remainingBytes).toBe(42n);
});
