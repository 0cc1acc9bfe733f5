import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { directoryFault } from "../../src/store/directory-root.ts";
import { openDirectoryStore } from "../../src/store/directory.ts";
import type { Store } from "../../src/store/store.ts";
import { expectFault, gathered, listed, pieces, storeContract } from "../contracts/store.ts";

const signal = new AbortController().signal;

storeContract("the directory store", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-store-"));
  return {
    store: openDirectoryStore({ directory }),
    leftovers: async () => (await readdir(join(directory, ".tmp"))).length,
    partBytes: 1024 * 1024,
    [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true }),
  };
});

describe("the directory store", () => {
  let directory: string;
  let store: Store;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "lifeboat-store-"));
    store = openDirectoryStore({ directory });
  });
  afterAll(async () => {
    await rm(directory, { recursive: true });
  });

  test("writes files that only their owner can read, in directories that only their owner can enter", async () => {
    await store.create("modes/deep/object", Buffer.from("1"), signal);
    const mode = async (path: string): Promise<string> =>
      ((await stat(join(directory, path))).mode & 0o777).toString(8);
    expect(await mode("modes/deep/object")).toBe("600");
    expect(await mode("modes/deep")).toBe("700");
    expect(await mode("modes")).toBe("700");
    expect(await mode(".tmp")).toBe("700");
  });

  test("a directory that does not exist is named by every method, and never made", async () => {
    const missing = join(directory, "not-mounted");
    const absent = openDirectoryStore({ directory: missing });
    for (const attempt of [
      () => absent.create("x", Buffer.from("1"), signal),
      () => absent.upload("x", pieces(Buffer.from("1")), signal),
      () => absent.read("x", signal),
      () => gathered(absent.download("x", signal)),
      () => absent.head("x", signal),
      () => listed(absent, ""),
      () => absent.remove("x", signal),
      () => absent.sweep(0, signal),
    ] as const) {
      const fault = await expectFault(attempt(), "store-missing");
      expect(fault.message).toContain(missing);
    }
    await expect(stat(missing)).rejects.toThrow("ENOENT");
  });

  test("a file in the place of the directory is refused", async () => {
    await writeFile(join(directory, "a-file"), "");
    await expectFault(openDirectoryStore({ directory: join(directory, "a-file") }).head("x", signal), "store-missing");
  });

  test("symbolic links are no objects: not read, not listed, not followed", async () => {
    const outside = await mkdtemp(join(tmpdir(), "lifeboat-outside-"));
    await writeFile(join(outside, "secret"), "secret");
    await mkdir(join(directory, "links"));
    await symlink(join(outside, "secret"), join(directory, "links/file"));
    await symlink(outside, join(directory, "links/directory"));
    for (const name of ["links/file", "links/directory/secret"]) {
      await expectFault(store.read(name, signal), "store-object-missing");
      await expectFault(gathered(store.download(name, signal)), "store-object-missing");
      expect(await store.head(name, signal)).toBeUndefined();
      await store.remove(name, signal);
    }
    expect(await listed(store, "links/")).toEqual([]);
    await expectFault(store.create("links/directory/new", Buffer.from("1"), signal), "store-exists");
    await expectFault(store.create("links/file", Buffer.from("secret"), signal), "store-exists");
    expect(await readdir(outside)).toEqual(["secret"]);
    await rm(outside, { recursive: true });
  });

  test("files that are not ours are not listed", async () => {
    await mkdir(join(directory, "foreign"));
    for (const name of [".hidden", "with space", "lost+found", "fine"])
      await writeFile(join(directory, "foreign", name), "");
    expect((await listed(store, "foreign/")).map((entry) => entry.name)).toEqual(["foreign/fine"]);
  });

  test("sweeps temporary files of dead runs when they are old enough, and no others", async () => {
    const old = new Date(Date.now() - 7_200_000);
    for (const name of ["old", "young"]) await writeFile(join(directory, ".tmp", name), "1");
    await utimes(join(directory, ".tmp/old"), old, old);
    expect(await store.sweep(3_600_000, signal)).toBe(1);
    expect(await readdir(join(directory, ".tmp"))).toEqual(["young"]);
    expect(await store.sweep(0, signal)).toBe(1);
    expect(await readdir(join(directory, ".tmp"))).toEqual([]);
  });

  test("an object that grows or shrinks while it is read is not taken for whole", async () => {
    for (const size of [10, 3_000_000]) {
      await store.create(`changing.${size}`, Buffer.alloc(2_000_000), signal);
      const reading = (async () => {
        for await (const chunk of store.download(`changing.${size}`, signal)) {
          if (chunk.length > 0) await writeFile(join(directory, `changing.${size}`), Buffer.alloc(size));
        }
      })();
      await expectFault(reading, "store-damaged");
    }
  });

  test("every byte, name and directory is synced before a write is reported", async () => {
    const trace = await tracedCreate();
    const position = (pattern: RegExp, from = 0): number => {
      const at = trace.findIndex((line, i) => i >= from && pattern.test(line));
      expect(at, `${pattern} in\n${trace.join("\n")}`).toBeGreaterThanOrEqual(0);
      return at;
    };
    const synced = position(/^fsync\(.*\.tmp\/[0-9a-f-]+>\) = 0/);
    const made = position(/^fsync\(.*\/root>\) = 0/);
    const deep = position(/^fsync\(.*\/root\/new>\) = 0/);
    const linked = position(/^link/);
    expect(Math.max(synced, made, deep)).toBeLessThan(linked);
    position(/^unlink/, linked);
    position(/^fsync\(.*\/root\/new\/deep>\) = 0/, linked);
  });

  test("a failing fsync fails the write, and nothing becomes visible", async () => {
    const trace = await tracedCreate("fsync:error=EIO:when=2+");
    expect(trace.filter((line) => /^fsync\(.*\(INJECTED\)/.test(line))).toHaveLength(1);
    expect(trace.filter((line) => line.startsWith("link"))).toEqual([]);
    expect(trace.at(-1)).toBe("store-refused");
  });

  test("a disk that is found full only when syncing fails the write, and nothing becomes visible", async () => {
    const trace = await tracedCreate("fsync:error=ENOSPC:when=2");
    expect(trace.filter((line) => /^fsync\(.*\(INJECTED\)/.test(line))).toHaveLength(1);
    expect(trace.filter((line) => line.startsWith("link"))).toEqual([]);
    expect(trace.at(-1)).toBe("store-full");
  });

  test("what the disk says becomes a fault with its remedy", () => {
    const errno = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code, syscall: "write" });
    expect(directoryFault(errno("ENOSPC"), "cannot write x")).toMatchObject({ code: "store-full" });
    expect(directoryFault(errno("EDQUOT"), "cannot write x")).toMatchObject({ code: "store-full" });
    expect(directoryFault(errno("EACCES"), "cannot write x")).toMatchObject({ code: "store-denied" });
    expect(directoryFault(errno("EROFS"), "cannot write x")).toMatchObject({ code: "store-denied" });
    expect(directoryFault(errno("EIO"), "cannot write x")).toMatchObject({ code: "store-refused" });
  });
});

/** Runs one create under strace (one pool thread, so that calls are in order); the system calls, then the outcome. */
async function tracedCreate(inject?: string): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-traced-"));
  await mkdir(join(directory, "root"));
  const script = `
    import { openDirectoryStore } from ${JSON.stringify(join(import.meta.dirname, "../../src/store/directory.ts"))};
    const store = openDirectoryStore({ directory: ${JSON.stringify(join(directory, "root"))} });
    const outcome = await store.create("new/deep/object", Buffer.from("1"), new AbortController().signal)
      .then(() => "done", (fault) => fault.code);
    process.stdout.write(outcome);
  `;
  const options = ["-f", "-qq", "-y", "-e", "trace=fsync,link,linkat,unlink", "-o", join(directory, "trace")];
  if (inject !== undefined) options.push("-e", `inject=${inject}`);
  const run = promisify(execFile);
  const env = { ...process.env, UV_THREADPOOL_SIZE: "1" };
  const node = [process.execPath, "--input-type=module", "-e", script];
  const { stdout } = await run("strace", [...options, ...node], { env }).catch((error: unknown) => {
    throw new Error("strace is needed for this test: apt-get install strace", { cause: error });
  });
  const lines = (await readFile(join(directory, "trace"), "utf8")).trim().split("\n");
  await rm(directory, { recursive: true });
  return [...lines.map((line) => line.replace(/^\d+\s+/, "")), stdout];
}
