import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SnapshotMessage } from "../../src/etcd/etcd.ts";
import { Fault } from "../../src/faults.ts";
import { SealChecker } from "../../src/snapshot/seal.ts";
import { seededBytes } from "./bytes.ts";

const sha = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
const message = (remaining: number, blob: Uint8Array, version = ""): SnapshotMessage => ({
  remainingBytes: BigInt(remaining),
  blob,
  version,
});

/** Plays a stream; the bytes that were accepted, or the fault's message. */
function play(messages: readonly SnapshotMessage[]): string {
  const checker = new SealChecker();
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for (const each of messages) {
      const accepted = checker.accept(each);
      hash.update(accepted);
      bytes += accepted.length;
    }
    checker.finish(hash.digest());
    return `${bytes} bytes`;
  } catch (error) {
    if (error instanceof Fault && error.code === "snapshot-broken")
      return error.message.replace(/^the snapshot stream is broken: /, "");
    throw error;
  }
}

const db = seededBytes(1024);
const [head, tail] = [db.subarray(0, 700), db.subarray(700)];
const seal = sha(db);
const empty = new Uint8Array(0);

describe("the snapshot stream", () => {
  test.each<[string, SnapshotMessage[], string]>([
    ["whole", [message(324, head), message(0, tail), message(0, seal)], "1024 bytes"],
    ["in one message", [message(0, db), message(0, seal)], "1024 bytes"],
    ["without a message", [], "the stream ended without a message"],
    ["of nothing", [message(0, empty)], "an empty database"],
    ["that begins with the seal", [message(0, seal)], "the stream ended without the seal"],
    ["that ends early", [message(324, head)], "the stream ended after 700 of 1024 bytes"],
    ["without the seal", [message(0, db)], "the stream ended without the seal"],
    [
      "with an empty message in between",
      [message(324, head), message(324, empty)],
      "an empty message with 324 bytes outstanding",
    ],
    ["that begins with an empty message", [message(324, empty)], "an empty message with 324 bytes outstanding"],
    [
      "that announces too little",
      [message(324, head), message(10, tail)],
      "10 bytes announced where 0 are outstanding",
    ],
    [
      "that announces the same again",
      [message(324, head), message(324, tail)],
      "324 bytes announced where 0 are outstanding",
    ],
    [
      "with more than was announced",
      [message(300, head), message(0, tail)],
      "0 bytes announced where -24 are outstanding",
    ],
    ["with a negative rest", [message(-1, head)], "-1 bytes remaining"],
    [
      "with a short seal",
      [message(0, db), message(0, seal.subarray(1))],
      "31 bytes where the 32 bytes of the seal must stand",
    ],
    [
      "with a long seal",
      [message(0, db), message(0, Buffer.concat([seal, seal]))],
      "64 bytes where the 32 bytes of the seal must stand",
    ],
    ["with bytes after the seal", [message(0, db), message(0, seal), message(0, seal)], "more data after the seal"],
    [
      "with an empty message at the end",
      [message(0, db), message(0, seal), message(0, empty)],
      "more data after the seal",
    ],
    [
      "with an empty message for a seal",
      [message(0, db), message(0, empty)],
      "0 bytes where the 32 bytes of the seal must stand",
    ],
    [
      "with a seal that announces more",
      [message(0, db), message(5, seal)],
      "32 bytes where the 32 bytes of the seal must stand",
    ],
    [
      "with another seal",
      [message(0, db), message(0, sha(head))],
      "the bytes do not match the seal that etcd sent after them",
    ],
  ])("%s: %s", (_, messages, result) => {
    expect(play(messages)).toBe(result);
  });

  test("tells the size from its first message and the storage version from any", () => {
    const checker = new SealChecker();
    expect(checker.totalBytes).toBeUndefined();
    checker.accept(message(324, head));
    expect(checker.totalBytes).toBe(1024);
    checker.accept(message(0, tail, "3.6.0"));
    expect(checker.version).toBe("3.6.0");
  });

  test("keeps no view of a message: the seal survives a buffer that is used again", () => {
    const checker = new SealChecker();
    checker.accept(message(0, db));
    const lent = Uint8Array.from(seal);
    checker.accept(message(0, lent));
    lent.fill(0);
    expect(Buffer.from(checker.finish(seal)).equals(seal)).toBe(true);
  });

  const chunked = fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 600 }), fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }))
    .map(([bytes, sizes]) => {
      const messages: SnapshotMessage[] = [];
      for (let at = 0, index = 0; at < bytes.length; index += 1) {
        const blob = bytes.subarray(at, at + (sizes[index % sizes.length] ?? 1));
        at += blob.length;
        messages.push(message(bytes.length - at, blob));
      }
      return { bytes, messages: [...messages, message(0, sha(bytes))] };
    });

  test("of any content in any chunks is accepted", () => {
    fc.assert(
      fc.property(chunked, ({ bytes, messages }) => {
        expect(play(messages)).toBe(`${bytes.length} bytes`);
      }),
    );
  });

  test("with any one message lost, doubled, swapped or changed is refused", () => {
    fc.assert(
      fc.property(
        chunked,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom("lose", "double", "swap", "flip", "rest"),
        (given, where, flip, kind) => {
          const messages = given.messages.map((each): SnapshotMessage => ({
            ...each,
            blob: Uint8Array.from(each.blob),
          }));
          const at = where % messages.length;
          const hit = messages[at] ?? message(0, empty);
          const next = messages[at + 1];
          if (kind === "lose") messages.splice(at, 1);
          if (kind === "double") messages.splice(at, 0, hit);
          if (kind === "flip") hit.blob[where % hit.blob.length] = (hit.blob[where % hit.blob.length] ?? 0) ^ flip;
          if (kind === "rest") messages[at] = { ...hit, remainingBytes: hit.remainingBytes + BigInt(flip) };
          if (kind === "swap") {
            fc.pre(next !== undefined);
            if (next !== undefined) messages.splice(at, 2, next, hit);
          }
          expect(play(messages)).not.toMatch(/^\d+ bytes$/);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
