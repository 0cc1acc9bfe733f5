import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { restoreBump, writeRestoreNote } from "../../src/snapshot/note.ts";
import { encryptedManifest, sampleManifest } from "../repository/sample.ts";

const golden = (name: string): string => join(import.meta.dirname, "golden", name);

describe("RESTORE.md", () => {
  test("of an encrypted cluster of three names every command with its values", async () => {
    await expect(writeRestoreNote(encryptedManifest(), "s3://etcd-backups/prod")).toMatchFileSnapshot(
      golden("restore-encrypted.md"),
    );
  });

  test("of one plain member with alarms, authentication and v2 content", async () => {
    const plain = sampleManifest();
    const [first] = plain.content.members;
    const members = first === undefined ? [] : [first];
    const manifest = sampleManifest({
      source: plain.source && { ...plain.source, name: "etcd1", version: "3.4.34" },
      live: plain.live && { ...plain.live, members, v2: { state: "yes", why: "GET /v2/keys has keys" } },
      content: {
        ...plain.content,
        members,
        authEnabled: true,
        alarms: [{ memberId: "1f00000000000000", kind: "NOSPACE" }],
      },
    });
    await expect(writeRestoreNote(manifest, "directory:/var/backups/etcd")).toMatchFileSnapshot(
      golden("restore-plain.md"),
    );
  });

  test("leaves out learners and members that have never started", () => {
    const plain = sampleManifest();
    const members = (plain.live?.members ?? []).map((member, at) => ({
      ...member,
      learner: at === 1,
      name: at === 2 ? "" : member.name,
    }));
    const note = writeRestoreNote(sampleManifest({ live: plain.live && { ...plain.live, members } }), "s3://b");
    expect(note.match(/^On .*:$/gm)).toEqual(["On etcd1:"]);
    expect(note).toContain("--initial-cluster etcd1=https://10.0.0.1:2380 \\");
  });

  test("hostile member names stay arguments in the shell and words on the page", () => {
    const hostile = "x'; touch /tmp/pwned; `id` $(id)\n```\n# Stop\n<b>";
    const plain = sampleManifest();
    const [first] = plain.content.members;
    const members = first === undefined ? [] : [{ ...first, name: hostile }];
    const note = writeRestoreNote(sampleManifest({ live: plain.live && { ...plain.live, members } }), "s3://b");
    const block = /^(`{4,})sh\n(etcdutl[^]*?)\n\1$/m.exec(note)?.[2] ?? "";
    const shown = execFileSync("sh", ["-c", `etcdutl() { for word; do printf '%s\\0' "$word"; done; }\n${block}`], {
      encoding: "utf8",
    });
    const words = shown.split("\0");
    expect(words[words.indexOf("--name") + 1]).toBe(hostile);
    expect(words[words.indexOf("--initial-cluster") + 1]).toBe(`${hostile}=https://10.0.0.1:2380`);
    const outside = note.replace(block, "");
    expect(outside).toContain(
      String.raw`On ${"`"}"x'; touch /tmp/pwned; \u0060id\u0060 $(id)\n\u0060\u0060\u0060\n# Stop\n<b>"${"`"}:`,
    );
    expect(outside).not.toContain("\n# Stop");
  });
});

describe("the bump", () => {
  const given = (revision: bigint, highest: bigint): bigint => {
    const plain = sampleManifest();
    return restoreBump({
      content: { ...plain.content, revision },
      live: plain.live && { ...plain.live, highestRevision: highest },
    });
  };

  test("is never less than a thousand million, and twice what was seen since where that is more", () => {
    expect(given(100n, 100n)).toBe(1_000_000_000n);
    expect(given(100n, 500_000_100n)).toBe(1_000_000_000n);
    expect(given(100n, 600_000_100n)).toBe(1_200_000_000n);
    expect(given(100n, 50n)).toBe(1_000_000_000n);
    expect(restoreBump({ content: sampleManifest().content, live: null })).toBe(1_000_000_000n);
  });
});
