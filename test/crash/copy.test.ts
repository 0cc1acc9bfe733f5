import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { copyFailpoints } from "../../src/failpoints.ts";
import { openDirectoryStore } from "../../src/store/directory.ts";
import { command, listed, openPlace, plantAll } from "../cluster/retention.ts";
import { namesIn } from "../repository/plant.ts";

/** SIGKILL at every named place of a copy: whatever the copy lists verifies, and the next run ends where one ends that was not killed. */

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "lifeboat-copy-crash-"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

test.each(copyFailpoints)("a copy killed at %s goes on after it", async (name) => {
  const directory = join(root, name);
  await mkdir(directory);
  const place = await openPlace(root, undefined, { last: 2 }, [{ name: "offsite", store: { directory } }]);
  const planted = await plantAll(place, 3);
  const killed = await command(place, ["copy"], { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: name });
  expect(killed.signal, `the failpoint did not fire: ${killed.stderr}`).toBe("SIGKILL");
  const verified = await command(place, ["verify", "--level", "bytes", "--store", "offsite"]);
  expect(verified.status, verified.stderr).toBe(name === "copy-manifest-stored" ? 0 : 10);

  const copied = await command(place, ["copy"]);
  expect(copied.status, copied.stderr).toBe(0);
  expect(await listed(place, "--store", "offsite")).toEqual(planted.map(({ backup }) => backup));
  const again = await command(place, ["verify", "--level", "bytes", "--store", "offsite"]);
  expect(again.status, again.stdout).toBe(0);
  // Everything but what a run left that died before its commit.
  const names = planted.flatMap(({ manifestName, proof = "", objects }) => [manifestName, proof, ...objects]);
  expect(await namesIn(openDirectoryStore({ directory }))).toEqual(
    [...names, `lineages/${planted[0]?.lineage}/lineage.json`].toSorted(),
  );
});
