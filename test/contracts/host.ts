import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault, type FaultCode } from "../../src/faults.ts";
import { partOf, type Host, type RunOptions, type SentFile } from "../../src/host/host.ts";

/** What the suite is run on: a host, and an empty directory on it. */
export interface OpenedHost extends AsyncDisposable {
  readonly host: Host;
  readonly directory: string;
}

const signal = new AbortController().signal;
const quick: RunOptions = { timeoutMs: 60_000 };
const plain = { mode: 0o600 };

/** The promises of `Host`, kept by every way to reach one and by the fake. */
export function hostContract(name: string, open: () => Promise<OpenedHost>): void {
  describe(`${name} keeps the host contract`, () => {
    let opened: OpenedHost;
    let host: Host;
    let directory: string;
    let names = 0;
    beforeAll(async () => {
      opened = await open();
      ({ host, directory } = opened);
    });
    afterAll(async () => {
      await opened[Symbol.asyncDispose]();
    });
    /** A path that nobody used yet. */
    const fresh = (): string => `${directory}/p${(names += 1)}`;
    const write = async (path: string, text: string): Promise<void> =>
      await host.writeFile(path, Buffer.from(text), plain, signal);
    const read = async (path: string): Promise<string | undefined> => {
      const bytes = await host.readFile(path, 2 ** 20, signal);
      return bytes === undefined ? undefined : Buffer.from(bytes).toString();
    };
    const makeTree = async (path: string): Promise<void> => {
      await host.makeDirectory(`${path}/inner`, { mode: 0o700 }, signal);
      await write(`${path}/inner/file`, "content");
    };

    describe("run", () => {
      test("gives what a program printed and its status, which is no fault", async () => {
        const result = await host.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], quick, signal);
        expect(result).toEqual({
          status: 7,
          signal: undefined,
          stdout: "out\n",
          stderr: "err\n",
          timedOut: false,
          truncated: false,
        });
      });

      test("hands every argument over as it is, whatever it looks like", async () => {
        const hostile = [
          "$(touch /tmp/x)",
          "`id`",
          "a b",
          "'",
          '"',
          "\\",
          "\n",
          "",
          "-n",
          "*",
          "~",
          ";exit 1",
          "&&",
          "|",
          "ü☃",
          "\t",
          "$HOME",
          "!!",
          "%s",
        ];
        const result = await host.run(["/usr/bin/printf", "[%s]", ...hostile], quick, signal);
        expect(result.stdout).toBe(hostile.map((text) => `[${text}]`).join(""));
      });

      test("refuses a NUL in an argument, which no program could be given", async () => {
        await expectFault(host.run(["/bin/echo", "a\0b"], quick, signal), "host-failed");
      });

      test("gives a program its input and an environment with nothing of ours", async () => {
        const input = await host.run(["/bin/cat"], { ...quick, stdin: Buffer.from("in\0put") }, signal);
        expect(input.stdout).toBe("in\0put");
        const { stdout } = await host.run(["/usr/bin/env"], { ...quick, env: { ETCDCTL_API: "3" } }, signal);
        const variables = stdout
          .trim()
          .split("\n")
          .map((line) => line.split("=")[0] ?? "");
        expect(variables.sort()).toEqual(["ETCDCTL_API", "LANG", "PATH"]);
      });

      test("does not wait for a program to read its input", async () => {
        const result = await host.run(["/bin/true"], { ...quick, stdin: Buffer.alloc(2 ** 20) }, signal);
        expect(result.status).toBe(0);
      });

      test("says that there is no such program", async () => {
        await expectFault(host.run(["/nowhere/program"], quick, signal), "host-program-missing");
        await expectFault(host.run(["no-such-program-anywhere"], quick, signal), "host-program-missing");
      });

      test("keeps the beginning of much output, and says that there was more", async () => {
        const many = ["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"] as const;
        const result = await host.run(many, { ...quick, maxOutputBytes: 1000 }, signal);
        expect(result).toMatchObject({ status: 0, truncated: true });
        expect(result.stdout).toBe("x".repeat(1000));
      });

      test("keeps the end instead where it is asked to, from a whole character on", async () => {
        const many = ["/bin/sh", "-c", "yes aü | head -c 3000000; printf last"] as const;
        const result = await host.run(many, { ...quick, maxOutputBytes: 1001, keepEnd: true }, signal);
        expect(result).toMatchObject({ status: 0, truncated: true });
        expect(result.stdout).toMatch(/^(?:ü\n|\n)?(?:aü\n)+last$/);
        expect(Buffer.byteLength(result.stdout)).toBeGreaterThan(990);
        const few = await host.run(["/bin/echo", "ü"], { ...quick, keepEnd: true }, signal);
        expect(few).toMatchObject({ stdout: "ü\n", truncated: false });
      });

      test("kills a program that takes too long, with the children that it has and that ignore SIGTERM", async () => {
        const script = "trap '' TERM; (trap '' TERM; echo $$; sleep 600) & echo child; sleep 600";
        const result = await host.run(["/bin/sh", "-c", script], { timeoutMs: 500 }, signal);
        expect(result).toMatchObject({ status: undefined, signal: "SIGKILL", timedOut: true });
        await expect.poll(async () => await sleepers(host, "600")).toEqual([]);
      });

      test("kills it when it is aborted, and says why", async () => {
        const controller = new AbortController();
        const why = new Fault("interrupted", "no more");
        setTimeout(() => controller.abort(why), 200);
        await expect(host.run(["/bin/sleep", "601"], quick, controller.signal)).rejects.toBe(why);
        await expect.poll(async () => await sleepers(host, "601")).toEqual([]);
        await expect(host.run(["/bin/true"], quick, controller.signal)).rejects.toBe(why);
      });

      test("leaves nothing behind that the program left in its group, unless it is told to", async () => {
        const left = (seconds: string) => ["/bin/sh", "-c", `sleep ${seconds} & exit 0`] as const;
        // Told from those of another run on this machine.
        const [killed, kept] = [`602.${process.pid}`, `603.${process.pid}`];
        await host.run(left(killed), quick, signal);
        await expect.poll(async () => await sleepers(host, killed)).toEqual([]);
        await host.run(left(kept), { ...quick, keepGroup: true }, signal);
        // The shell ends before its child is the other program.
        await expect.poll(async () => await sleepers(host, kept)).toHaveLength(1);
        const [pid] = await sleepers(host, kept);
        await host.run(["/bin/kill", "-KILL", `${pid}`], quick, signal);
      });

      test("does not wait for a daemon that went away with its output", async () => {
        const script = "setsid sleep 3 & echo started";
        const result = await host.run(["/bin/sh", "-c", script], quick, signal);
        expect(result).toMatchObject({ status: 0, stdout: "started\n" });
      });
    });

    describe("files", () => {
      test("what was written is read, with its mode", async () => {
        const path = fresh();
        await host.writeFile(path, Buffer.from("first"), { mode: 0o640 }, signal);
        await host.writeFile(path, Buffer.from("second"), { mode: 0o604 }, signal);
        expect(await read(path)).toBe("second");
        expect(await host.stat(path, signal)).toMatchObject({ kind: "file", sizeBytes: 6, mode: 0o604 });
      });

      test("writing leaves nothing beside the file", async () => {
        const path = fresh();
        await host.makeDirectory(path, { mode: 0o755 }, signal);
        await write(`${path}/file`, "x");
        expect(await host.list(path, signal)).toEqual(["file"]);
      });

      test("what is not there is undefined, and removing it is no fault", async () => {
        const path = fresh();
        expect(await host.readFile(path, 10, signal)).toBeUndefined();
        expect(await host.readFile(`${path}/inner`, 10, signal)).toBeUndefined();
        expect(await host.stat(path, signal)).toBeUndefined();
        expect(await host.list(path, signal)).toBeUndefined();
        await host.removeFile(path, signal);
        await host.removeTree(path, signal);
      });

      test("a file that is larger than it may be is refused", async () => {
        const path = fresh();
        await write(path, "12345");
        expect(await host.readFile(path, 5, signal)).toHaveLength(5);
        await expectFault(host.readFile(path, 4, signal), "host-failed");
      });

      test("a directory is no file", async () => {
        await expectFault(host.readFile(directory, 100, signal), "host-failed");
      });

      test("writing where no directory is says what is missing", async () => {
        await expectFault(write(`${fresh()}/file`, "x"), "host-missing");
      });

      test.each(["relative", "/a/../b", "/a\0b", ""])("a path such as %j is refused", async (path) => {
        await expectFault(host.readFile(path, 10, signal), "host-failed");
        await expectFault(host.removeTree(path, signal), "host-failed");
        await expectFault(host.rename(fresh(), path, signal), "host-failed");
      });

      test("names are listed sorted", async () => {
        const path = fresh();
        for (const name of ["b", ".a", "c"]) await host.makeDirectory(`${path}/${name}`, { mode: 0o700 }, signal);
        expect(await host.list(path, signal)).toEqual([".a", "b", "c"]);
      });
    });

    describe("directories", () => {
      test("are made with their parents, and stay as they are the second time", async () => {
        const path = `${fresh()}/a/b`;
        await host.makeDirectory(path, { mode: 0o750 }, signal);
        await host.makeDirectory(path, { mode: 0o700 }, signal);
        expect(await host.stat(path, signal)).toMatchObject({ kind: "directory", mode: 0o750, isMountPoint: false });
      });

      test("are not made where a file is", async () => {
        const path = fresh();
        await write(path, "x");
        await expectFault(host.makeDirectory(path, { mode: 0o700 }, signal), "host-exists");
      });

      test("have a size, and their disk has room", async () => {
        const path = fresh();
        await host.makeDirectory(path, { mode: 0o700 }, signal);
        await host.writeFile(`${path}/file`, Buffer.alloc(100_000, 1), plain, signal);
        const bytes = await host.treeSize(path, signal);
        expect(bytes).toBeGreaterThanOrEqual(100_000);
        expect(bytes).toBeLessThan(1_000_000);
        const space = await host.space(`${path}/not/there/yet`, signal);
        expect(space.freeBytes).toBeGreaterThan(0);
        expect(space.device).toBe((await host.stat(path, signal))?.device);
        await expectFault(host.treeSize(fresh(), signal), "host-missing");
      });

      test("the root is a mount point", async () => {
        expect((await host.stat("/", signal))?.isMountPoint).toBe(true);
        expect(await host.mountsBelow("/", signal)).not.toContain("/");
        expect(await host.mountsBelow(fresh(), signal)).toEqual([]);
        expect((await host.stat("/", signal))?.target).toBeUndefined();
      });
    });

    describe("rename", () => {
      test("moves a tree", async () => {
        const [from, to] = [fresh(), fresh()];
        await makeTree(from);
        const before = await host.stat(from, signal);
        await host.rename(from, to, signal);
        expect(await host.stat(from, signal)).toBeUndefined();
        expect(await read(`${to}/inner/file`)).toBe("content");
        expect((await host.stat(to, signal))?.inode).toBe(before?.inode);
      });

      test("never takes the place of what is there, not even of an empty directory", async () => {
        const [from, to] = [fresh(), fresh()];
        await makeTree(from);
        await host.makeDirectory(to, { mode: 0o700 }, signal);
        await expectFault(host.rename(from, to, signal), "host-exists");
        await expectFault(host.rename(from, from, signal), "host-exists");
        expect(await read(`${from}/inner/file`)).toBe("content");
      });

      test("of what is not there says so", async () => {
        await expectFault(host.rename(fresh(), fresh(), signal), "host-missing");
      });
    });

    describe("receive", () => {
      test("brings a tree with its modes, and nothing is left beside it", async () => {
        const path = fresh();
        const sent = [file("snap/db", "database", 0o600), file("wal/0.wal", "log", 0o644), file("empty", "", 0o600)];
        await host.receive(path, several(sent), { mode: 0o710 }, signal);
        expect(await read(`${path}/snap/db`)).toBe("database");
        expect(await read(`${path}/empty`)).toBe("");
        expect(await host.stat(`${path}/wal/0.wal`, signal)).toMatchObject({ mode: 0o644 });
        expect(await host.stat(path, signal)).toMatchObject({ kind: "directory", mode: 0o710 });
        expect(await host.stat(`${path}/wal`, signal)).toMatchObject({ mode: 0o710 });
        expect(await host.stat(partOf(path), signal)).toBeUndefined();
      });

      test("refuses a directory that is there", async () => {
        const path = fresh();
        await host.makeDirectory(path, { mode: 0o700 }, signal);
        await expectFault(host.receive(path, several([]), { mode: 0o700 }, signal), "host-exists");
      });

      const wrong: readonly (readonly [string, Partial<SentFile>])[] = [
        ["other bytes", { sha256: createHash("sha256").update("other").digest("hex") }],
        ["too few", { sizeBytes: 9 }],
        ["too many", { sizeBytes: 7 }],
      ];
      test.each(wrong)("a file with %s leaves no directory under the name", async (_, change) => {
        const path = fresh();
        const files = several([file("good", "good", 0o600), { ...file("bad", "database", 0o600), ...change }]);
        await expectFault(host.receive(path, files, { mode: 0o700 }, signal), "host-damaged");
        expect(await host.stat(path, signal)).toBeUndefined();
      });

      test.each(["../out", "/etc/x", ".hidden", "a/../b", "a//b", "", "a\0b"])(
        "a file cannot get out by the name %j",
        async (name) => {
          const path = fresh();
          const files = several([file(name, "x", 0o600)]);
          await expectFault(host.receive(path, files, { mode: 0o700 }, signal), "host-failed");
          expect(await host.stat(path, signal)).toBeUndefined();
        },
      );

      test("a source that throws leaves no directory under the name, and the next try succeeds", async () => {
        const path = fresh();
        const why = new Fault("store-unreachable", "gone");
        const broken: SentFile = {
          ...file("db", "database", 0o600),
          async *content() {
            yield Buffer.from("data");
            await Promise.resolve();
            throw why;
          },
        };
        await expect(host.receive(path, several([broken]), { mode: 0o700 }, signal)).rejects.toBe(why);
        expect(await host.stat(path, signal)).toBeUndefined();
        await host.receive(path, several([file("db", "database", 0o600)]), { mode: 0o700 }, signal);
        expect(await host.list(path, signal)).toEqual(["db"]);
      });

      test("an abort leaves no directory under the name", async () => {
        const path = fresh();
        const controller = new AbortController();
        const endless: SentFile = {
          ...file("db", "", 0o600),
          sizeBytes: 2 ** 40,
          async *content() {
            for (let sent = 0; ; sent += 1) {
              if (sent === 3) controller.abort(new Fault("interrupted", "no more"));
              yield Buffer.alloc(1000);
              await Promise.resolve();
              if (controller.signal.aborted) return;
            }
          },
        };
        const receiving = host.receive(path, several([endless]), { mode: 0o700 }, controller.signal);
        await expect(receiving).rejects.toBeInstanceOf(Fault);
        expect(await host.stat(path, signal)).toBeUndefined();
      });
    });

    describe("send", () => {
      test("streams a file", async () => {
        const path = fresh();
        const bytes = Buffer.alloc(3_000_000, "abc");
        await host.writeFile(path, bytes, plain, signal);
        const chunks: Uint8Array[] = [];
        for await (const chunk of host.send(path, signal)) chunks.push(chunk);
        expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
      });

      test("says that a file is not there", async () => {
        const reading = async (): Promise<void> => {
          for await (const chunk of host.send(fresh(), signal)) expect(chunk).toBeUndefined();
        };
        await expectFault(reading(), "host-missing");
      });
    });

    describe("readAt", () => {
      test("gives a part of a file, less where it ends before, and nothing past its end", async () => {
        const path = fresh();
        await host.writeFile(path, Buffer.alloc(3_000_000, "abc"), plain, signal);
        const part = async (offset: number, bytes: number): Promise<string> =>
          Buffer.from(await host.readAt(path, offset, bytes, signal)).toString();
        expect(await part(2, 5)).toBe("cabca");
        expect((await part(1, 2_000_000)).length).toBe(2_000_000);
        expect(await part(2_999_998, 100)).toBe("bc");
        expect(await part(3_000_000, 100)).toBe("");
        expect(await part(4_000_000, 100)).toBe("");
      });

      test("says that a file is not there", async () => {
        await expectFault(host.readAt(fresh(), 0, 1, signal), "host-missing");
      });
    });

    describe("removeTree", () => {
      test("removes a tree and leaves nothing beside it", async () => {
        const path = fresh();
        await makeTree(`${path}/tree`);
        await host.removeTree(`${path}/tree`, signal);
        expect(await host.list(path, signal)).toEqual([]);
      });

      test("refuses the root", async () => {
        await expectFault(host.removeTree("/", signal), "host-cross-device");
      });
    });

    describe("facts", () => {
      test("a boot has an id, and we are somebody", async () => {
        const facts = await host.facts(signal);
        expect(facts.bootId).not.toBe("");
        expect((await host.facts(signal)).bootId).toBe(facts.bootId);
        expect(facts.uid).toBeGreaterThanOrEqual(0);
      });
    });

    test("an aborted signal is honoured by everything", async () => {
      const gone = AbortSignal.abort(new Fault("interrupted", "no more"));
      const results = await Promise.allSettled([
        host.facts(gone),
        host.readFile(directory, 1, gone),
        host.writeFile(fresh(), Buffer.from(""), plain, gone),
        host.removeFile(fresh(), gone),
        host.stat(directory, gone),
        host.list(directory, gone),
        host.treeSize(directory, gone),
        host.space(directory, gone),
        host.rename(fresh(), fresh(), gone),
        host.makeDirectory(fresh(), { mode: 0o700 }, gone),
        host.receive(fresh(), several([]), { mode: 0o700 }, gone),
        host.removeTree(fresh(), gone),
        host.processes(gone),
        host.holders(directory, gone),
        host.listeners(gone),
        host.connections(1, gone),
      ]);
      for (const [index, result] of results.entries()) {
        expect(result, `${index}`).toMatchObject({ status: "rejected", reason: { code: "interrupted" } });
      }
    });
  });
}

function file(path: string, text: string, mode: number): SentFile {
  return {
    path,
    sizeBytes: Buffer.byteLength(text),
    mode,
    sha256: createHash("sha256").update(text).digest("hex"),
    async *content() {
      await Promise.resolve();
      if (text.length > 0) yield Buffer.from(text.slice(0, 3));
      if (text.length > 3) yield Buffer.from(text.slice(3));
    },
  };
}

async function* several(files: readonly SentFile[]): AsyncGenerator<SentFile> {
  await Promise.resolve();
  yield* files;
}

/** Processes that sleep for so many seconds, by what the host itself says. */
async function sleepers(host: Host, seconds: string): Promise<readonly string[]> {
  const { stdout } = await host.run(
    ["/usr/bin/pgrep", "-x", "-f", `s?/?(usr/)?(bin/)?sleep ${seconds}`],
    quick,
    signal,
  );
  return stdout.trim().split("\n").filter(Boolean);
}

async function expectFault(asked: Promise<unknown>, code: FaultCode): Promise<void> {
  const error: unknown = await asked.then(
    () => new Error("it succeeded"),
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code });
}
