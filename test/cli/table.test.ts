import { expect, test } from "vitest";
import { formatTable } from "../../src/cli/table.ts";

test("columns are as wide as their widest cell, and no line ends in blanks", () => {
  const table = formatTable([
    ["BACKUP", "KEYS", "LABEL"],
    ["first", "1000", ""],
    ["second one", "7", "before-upgrade"],
  ]);
  expect(table).toBe(
    ["BACKUP      KEYS  LABEL", "first       1000", "second one  7     before-upgrade", ""].join("\n"),
  );
});

test("what a cluster or a store says cannot move the cursor or begin a row of its own", () => {
  expect(formatTable([["NAME"], ["evil\u001b[2K\nfake"]])).toBe("NAME\nevil\\u001b[2K\\nfake\n");
});
