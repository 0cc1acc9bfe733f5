import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const page = fileURLToPath(new URL("../../docs/benchmarks.md", import.meta.url));

/** Puts text between `<!-- NAME -->` and `<!-- end of NAME -->` of docs/benchmarks.md. */
export async function writePage(name: string, text: string): Promise<void> {
  const before = await readFile(page, "utf8");
  const [start, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [head, rest = ""] = before.split(start);
  const [, tail] = rest.split(end);
  if (head === undefined || tail === undefined) throw new Error(`${page} has no place for ${name}`);
  await writeFile(page, `${head}${start}\n\n${text}\n\n${end}${tail}`);
}
