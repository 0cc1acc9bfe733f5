import { escapeControls } from "../format.ts";

/** Rows as text columns; the first row is the head. Columns are padded, and no line ends in blanks. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map((cell) => escapeControls(cell)));
  const widths = (safe[0] ?? []).map((_, column) => Math.max(...safe.map((row) => (row[column] ?? "").length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
  return safe.map((row) => `${line(row).trimEnd()}\n`).join("");
}
