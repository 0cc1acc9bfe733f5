import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const soak = fileURLToPath(new URL("../soak/month.ts", import.meta.url));

/** Half a day of what `npm run soak:month` does for a month, in a process whose files and memory are its own. */
test("at a backup a minute, files, sockets and memory stay flat", { timeout: 900_000 }, async () => {
  const { promise, resolve } = Promise.withResolvers<{ readonly code: unknown; readonly said: string }>();
  execFile(process.execPath, [soak, "--days", "0.5"], (error, stdout, stderr) =>
    resolve({ code: error?.code ?? 0, said: `${stdout}${stderr}` }),
  );
  const { code, said } = await promise;
  expect(said).toContain("files, sockets and memory stayed flat\n");
  expect(code).toBe(0);
});
