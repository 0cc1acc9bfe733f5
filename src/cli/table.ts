import { escapeControls } from "../format.ts";

/** Rows as text columns; the first row is the head. Columns are padded, the last one is not. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map((cell) => escapeControls(cell)));
  const widths = (safe[0] ?? []).map((_, column) => Math.max(...safe.map((row) => (row[column] ?? "").length)));
  return safe
    .map(
      (row) =>
        `${row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join("  ")}\n`,
    )
    .join("");
}
