import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../../src/cli/program.ts";
import type { Environment, Tools } from "../../src/cli/tools.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isFault } from "../../src/faults.ts";
import { formatDuration, formatTime } from "../../src/format.ts";
import type { LockScope } from "../../src/repository/lock.ts";
import { calm } from "../snapshot/bytes.ts";
import { neverBooted, type Rig } from "../snapshot/rig.ts";

export interface Said {
  readonly status: number;
  readonly out: string;
  readonly err: string;
  /** Code of the fault that main would print. */
  readonly fault: string | undefined;
  readonly hint: string | undefined;
}

/** Runs the program as main does, on a rig's fakes. */
export async function say(rig: Rig | undefined, ...argv: string[]): Promise<Said> {
  return await sayAt(undefined, rig, ...argv);
}

/** The same at a terminal, where somebody types this when asked. */
export async function sayAt(typed: string | undefined, rig: Rig | undefined, ...argv: string[]): Promise<Said> {
  let [out, err] = ["", ""];
  const environment: Environment = {
    console: {
      out: (text) => void (out += text),
      err: (text) => void (err += text),
      interactive: false,
      ...(typed === undefined ? {} : { ask: async (question: string) => ((err += question), typed) }),
      columns: () => undefined,
      env: {},
    },
    version: "1.2.3",
    signal: calm,
    open: (path) => {
      if (rig === undefined) throw new Error("this command must not open anything");
      return toolsOf(rig, path);
    },
    listen: () => ({ emit: () => undefined, close: () => undefined }),
    daemon: async () => undefined,
  };
  try {
    return { status: await runProgram(environment, argv), out, err, fault: undefined, hint: undefined };
  } catch (error) {
    if (!isFault(error)) throw error;
    return { status: error.exitStatus, out, err: `${err}${error.message}`, fault: error.code, hint: error.hint };
  }
}

/** A configuration that is as small as one can be, beside the rig's spool. */
export function configOf(rig: Rig, extra = ""): string {
  const path = join(rig.spoolDirectory, "../config.yaml");
  const store = join(rig.spoolDirectory, "../store");
  writeFileSync(
    path,
    `cluster:\n  name: prod\n  endpoints: ["http://127.0.0.1:2379"]\nrepository:\n  store:\n    directory: ${store}\n${extra}`,
  );
  return path;
}

/** The operation lock as the commands see it. */
export function lockOf({ deps }: Rig): LockScope {
  return {
    store: deps.store,
    cluster: "prod",
    prefix: "coordination",
    clock: deps.clock,
    newId: deps.newId,
    author: { host: "cp1", user: "root", pid: 4711, version: "1.2.3" },
    describe: { time: formatTime, duration: formatDuration },
  };
}

function toolsOf(rig: Rig, path: string): Tools {
  const { deps } = rig;
  return {
    loaded: loadConfig({ path, env: {}, files: false }),
    clock: deps.clock,
    newId: deps.newId,
    scan: deps.scan,
    store: async () => deps.store,
    copies: async () => rig.copies,
    trusted: async () => deps.trusted,
    signer: async () => deps.encoder.signer,
    spool: async () => deps.spool,
    catalogDirectory: join(rig.spoolDirectory, "catalog"),
    identities: async () => [],
    examineBucket: undefined,
    etcdAs: () => {
      throw new Error("no other user here");
    },
    scanAny: () => Promise.reject(new Error("no scan here")),
    holders: async () => [],
    journals: () => {
      throw new Error("no journals here");
    },
    restore: () => Promise.reject(new Error("no restore here")),
    hosts: () => Promise.reject(new Error("no hosts here")),
    survivor: () => Promise.reject(new Error("no survivor here")),
    hook: () => Promise.resolve(undefined),
    removeWork: () => Promise.resolve(),
    boot: neverBooted,
    lock: async () => lockOf(rig),
    backup: async (emit) => ({ ...deps, emit }),
    async [Symbol.asyncDispose]() {
      await deps.etcd[Symbol.asyncDispose]();
    },
  };
}
