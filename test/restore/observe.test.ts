import { expect, test } from "vitest";
import { openModel, openScratch } from "./model.ts";

test("names of peer URLs are asked on every host, and one that nobody knows refuses the plan", async () => {
  using scratch = openScratch();
  const nameless = ["m2.invalid"];
  const opened = openModel({ members: 3, nameless }, scratch.directory);
  const refused = await opened.then(
    () => "",
    (error: unknown) => String(error),
  );
  for (const host of ["h1", "h2", "h3"]) expect(refused).toContain(`${host} cannot find the address of m2.invalid`);
  expect(refused).not.toContain("m1.invalid");
});
