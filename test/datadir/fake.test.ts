import { expect, test } from "vitest";
import type { DataDirectoryRequest } from "../../src/datadir/datadir.ts";
import { fakeBuilder } from "../fakes/datadir.ts";

const request: DataDirectoryRequest = {
  minor: "3.6",
  token: "restore-1",
  members: [{ name: "etcd1", peerUrls: ["http://10.0.0.1:2380"] }],
  bump: 5n,
};

test("the fake builder gives files whose size and hash are those of their content, each time they are read", async () => {
  const builder = fakeBuilder({ revision: 7n });
  const signal = new AbortController().signal;
  const built = await builder.build("snapshot.db", "work", request, signal);
  expect(built.hashKv).toMatchObject({ revision: 12n, compactRevision: 12n });
  for (const file of built.members.flatMap(({ data, wal }) => [...data, ...wal])) {
    for (let reading = 0; reading < 2; reading++) {
      const chunks = await Array.fromAsync(file.content(signal));
      expect(Buffer.concat(chunks)).toHaveLength(file.sizeBytes);
    }
  }
  expect(builder.builds).toBe(1);
});
