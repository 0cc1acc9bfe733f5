import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expiryFailpoints } from "../../src/failpoints.ts";
import { age, command, expire, listed, openPlace, plantAll } from "../cluster/retention.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { namesIn } from "../repository/plant.ts";

/** SIGKILL at every named place of an expiry: whatever is listed verifies, nothing that should stay is gone, and the next runs end where one ends that was not killed. */

let root: string;
let server: TestS3;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "lifeboat-expire-crash-"));
  server = await startS3();
  await server.createBucket("crash");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

describe.each(["directory", "s3"] as const)("with the %s store", (kind) => {
  test.each(expiryFailpoints)("an expiry killed at %s goes on", async (name) => {
    const place = await openPlace(root, kind === "s3" ? { server, bucket: "crash" } : undefined);
    const planted = await plantAll(place, 4);
    expect(await age(place, "/snapshots/", 8)).toBeGreaterThanOrEqual(9);
    if (name === "expired-data-removed") {
      expect((await expire(place)).outcome).toMatchObject({ expired: 2, orphans: 1 });
      expect(await age(place, "/gone/", 2)).toBe(3);
    }
    const killed = await command(place, ["expire", "--yes"], {
      LIFEBOAT_FAILPOINTS: "on",
      LIFEBOAT_FAILPOINT: name,
    });
    expect(killed.signal, `the failpoint did not fire: ${killed.stderr}`).toBe("SIGKILL");
    const verified = await command(place, ["verify", "--level", "bytes"]);
    expect(verified.status, verified.stdout).toBe(0);
    const stay = planted.slice(2);
    expect(await listed(place)).toEqual(expect.arrayContaining(stay.map(({ backup }) => backup)));

    for (let round = 0; round < 3; round += 1) {
      await expire(place);
      await age(place, "/snapshots/", 8);
      await age(place, "/proofs/", 8);
      await age(place, "/gone/", 100);
    }
    await expire(place);
    const left = stay.flatMap(({ manifestName, proof = "", objects }) => [manifestName, proof, ...objects]);
    expect(await namesIn(place.store)).toEqual([...left, `lineages/${stay[0]?.lineage}/lineage.json`].toSorted());
  });
});
