import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

const cacheBin = join(import.meta.dirname, "../../.cache/bin");

/** Runs a stock tool with these bytes on its standard input and gives what it writes; a missing tool is a failure. */
export async function stock(
  tool: "age" | "age-keygen" | "zstd",
  args: readonly string[],
  input: Uint8Array,
): Promise<Buffer> {
  const child = spawn(findTool(tool), args, { stdio: ["pipe", "pipe", "pipe"] });
  const output: Buffer[] = [];
  const complaints: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => complaints.push(chunk));
  // A tool that refuses its input closes it early; its exit status says so.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (status !== 0) throw new Error(`${tool} ended with ${status}: ${Buffer.concat(complaints).toString()}`);
  return Buffer.concat(output);
}

function findTool(tool: string): string {
  const folders = [cacheBin, ...(process.env["PATH"] ?? "").split(delimiter)];
  for (const folder of folders) {
    const path = join(folder, tool);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  throw new Error(`${tool} is neither on the PATH nor in .cache/bin: run scripts/servers tools`);
}
