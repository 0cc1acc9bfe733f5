import { expect, test } from "vitest";
import { openModel, openScratch } from "./model.ts";

test("that the members were compared with each other alone is told, and recorded without a hash", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 3, expired: "3.5.9" }, scratch.directory);
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  const told = model.events.flatMap((event) => (event.name === "warning" ? [event.message] : []));
  expect(told.filter((message) => message.includes("were not compared with the file"))).toHaveLength(1);
  expect(model.results("healthy")).toMatchObject({ hash: null, notCompared: expect.stringContaining("leases") });
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
});
