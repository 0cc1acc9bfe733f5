import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** Plants violations in a tree of its own and has the real linter, with the project's own rules, look at it once. */

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Row {
  readonly file: string;
  /** What the linter must say of every planted line. */
  readonly message: string;
  readonly forbidden: readonly string[];
  /** Lines of which nothing may be said. */
  readonly allowed: readonly string[];
}

const noRow = "imports: this file has no row";
const sdks = ["@grpc/grpc-js", "etcd3", "@aws-sdk/client-s3", "winston", "prom-client", "execa"];
const adapters = ["../etcd/connect.ts", "../etcd/member.ts", "../store/s3.ts", "../store/directory.ts"];

let names = 0;

const rows: readonly Row[] = [
  {
    file: "src/newcomer/first.ts",
    message: noRow,
    ...imports(["./second.ts", "../clock.ts", "node:fs", "zod"], ["../faults.ts"]),
  },
  { file: "src/newcomer.ts", message: noRow, ...imports(["./clock.ts", "./compose.ts", "node:fs"], ["./faults.ts"]) },
  { file: "src/faults.ts", message: "imports: faults, format", ...imports(["./events.ts", "node:fs", "zod"], []) },
  { file: "src/format.ts", message: "imports: faults, format", ...imports(["./faults.ts", "node:util"], []) },
  { file: "src/crc32c.ts", message: "imports: faults, format", ...imports(["./faults.ts", "node:zlib"], []) },
  { file: "src/version.ts", message: "imports: faults, format", ...imports(["./faults.ts", "node:fs/promises"], []) },
  {
    file: "src/compose.ts",
    message: "imports: compose",
    ...imports(["./main.ts"], ["./etcd/connect.ts", "ulid", "node:fs"]),
  },
  { file: "src/heap.ts", message: "imports: heap", ...imports(["./faults.ts", "node:fs"], ["node:v8"]) },
  {
    file: "src/main.ts",
    message: "imports: main may",
    ...imports(
      ["./etcd/connect.ts", "./snapshot/backup.ts", "./config/load.ts", "commander"],
      ["./compose.ts", "./cli/program.ts", "node:process"],
    ),
  },
  {
    file: "src/bolt/scan.ts",
    message: "imports: bolt",
    ...imports(
      ["../events.ts", "../clock.ts", "../etcd/etcd.ts", "zod", "fs", "../../bolt/x.ts"],
      ["./page.ts", "../faults.ts", "../crc32c.ts", "node:fs/promises"],
    ),
  },
  {
    file: "src/workers/worker.ts",
    message: "imports: workers",
    ...imports(
      ["../snapshot/take.ts", "../store/store.ts", "../compose.ts", "zod"],
      ["../bolt/scan.ts", "../faults.ts", "../crc32c.ts", "node:worker_threads"],
    ),
  },
  {
    file: "src/config/load.ts",
    message: "imports: config",
    ...imports(
      ["../etcd/etcd.ts", "../cli/tools.ts", "../format.ts", "commander"],
      ["./schema.ts", "../faults.ts", "zod", "yaml", "node-cron", "node:fs"],
    ),
  },
  ...[
    "src/etcd/etcd.ts",
    "src/stock/stock.ts",
    "src/store/store.ts",
    "src/datadir/datadir.ts",
    "src/host/host.ts",
    "src/service/service.ts",
  ].map((file) => ({
    file,
    message: "imports: a contract",
    ...imports(["./connect.ts", "../clock.ts", "@grpc/grpc-js", "@aws-sdk/client-s3", "node:stream"], ["../faults.ts"]),
  })),
  ...["src/events.ts", "src/clock.ts", "src/deadline.ts"].map((file) => ({
    file,
    message: "imports: a contract",
    ...imports(["./format.ts", "./telemetry/log.ts", "node:timers/promises", "winston"], ["./faults.ts"]),
  })),
  {
    file: "src/etcd/member.ts",
    message: "imports: an etcd adapter",
    ...imports(
      [
        "../store/store.ts",
        "../cluster/observe.ts",
        "../events.ts",
        "../snapshot/take.ts",
        "@aws-sdk/client-s3",
        "execa",
      ],
      [
        "./etcd.ts",
        "../faults.ts",
        "../deadline.ts",
        "@grpc/grpc-js",
        "protobufjs",
        "etcd3/lib/connection-pool.js",
        "node:fs/promises",
      ],
    ),
  },
  {
    file: "src/stock/local.ts",
    message: "imports: what runs stock programs",
    ...imports(
      ["../etcd/etcd.ts", "../clock.ts", "../snapshot/boot.ts", "../events.ts", "execa"],
      ["./stock.ts", "../faults.ts", "node:child_process", "node:fs/promises"],
    ),
  },
  {
    file: "src/datadir/lifeboat.ts",
    message: "imports: datadir may",
    ...imports(
      ["../stock/local.ts", "../etcd/etcd.ts", "../clock.ts", "../snapshot/spool.ts", "../events.ts", "zod"],
      [
        "./datadir.ts",
        "../bolt/scan.ts",
        "../workers/worker.ts",
        "../stock/stock.ts",
        "../faults.ts",
        "../crc32c.ts",
        "node:fs",
      ],
    ),
  },
  {
    file: "src/host/local.ts",
    message: "imports: a host may",
    ...imports(
      ["../etcd/etcd.ts", "../service/service.ts", "../runbook/runbook.ts", "../config/hosts.ts", "zod"],
      ["./host.ts", "../faults.ts", "../deadline.ts", "execa", "node:fs/promises"],
    ),
  },
  {
    file: "src/service/systemd.ts",
    message: "imports: a service may",
    ...imports(
      ["../host/local.ts", "../etcd/etcd.ts", "../runbook/runbook.ts", "../config/hosts.ts", "node:fs", "execa"],
      ["./service.ts", "../host/host.ts", "../faults.ts", "yaml"],
    ),
  },
  {
    file: "src/runbook/execute.ts",
    message: "imports: runbook may",
    ...imports(
      [
        ...sdks,
        ...adapters,
        "../host/host.ts",
        "../service/service.ts",
        "../store/store.ts",
        "../repository/names.ts",
        "../restore/plan.ts",
        "node:fs/promises",
      ],
      ["./journal.ts", "./runbook.ts", "../faults.ts", "../events.ts", "../clock.ts", "zod"],
    ),
  },
  {
    file: "src/runbook/journal-file.ts",
    message: "imports: an adapter of runbook",
    ...imports(
      ["../host/host.ts", "../etcd/etcd.ts", "../store/store.ts", "../restore/plan.ts"],
      ["./journal.ts", "../faults.ts", "../deadline.ts", "execa", "node:fs/promises"],
    ),
  },
  {
    file: "src/store/gcs.ts",
    message: "imports: an adapter",
    ...imports(["@aws-sdk/client-s3", "@grpc/grpc-js", "../repository/names.ts"], ["./store.ts", "../faults.ts"]),
  },
  {
    file: "src/store/s3-upload.ts",
    message: "imports: the S3 adapter",
    ...imports(
      ["./directory.ts", "../etcd/etcd.ts", "../events.ts", "@grpc/grpc-js"],
      ["./store.ts", "./s3.ts", "@aws-sdk/client-s3", "../faults.ts", "../crc32c.ts"],
    ),
  },
  {
    file: "src/store/directory.ts",
    message: "imports: the directory adapter",
    ...imports(
      ["./s3.ts", "./s3-client.ts", "@aws-sdk/client-s3", "../snapshot/spool.ts"],
      ["./store.ts", "../faults.ts", "../crc32c.ts", "node:fs/promises"],
    ),
  },
  {
    file: "src/telemetry/log.ts",
    message: "imports: telemetry",
    ...imports(
      [
        "../snapshot/backup.ts",
        "../repository/catalog.ts",
        "../cluster/observe.ts",
        "../config/schema.ts",
        "../etcd/etcd.ts",
        "node:child_process",
      ],
      [
        "./told.ts",
        "../events.ts",
        "../faults.ts",
        "../format.ts",
        "../clock.ts",
        "winston",
        "prom-client",
        "node:http",
        "node:https",
        "node:crypto",
      ],
    ),
  },
  {
    file: "src/cluster/observe.ts",
    message: "imports: cluster",
    ...imports(
      [...sdks, ...adapters, "../store/store.ts", "../repository/catalog.ts", "node:fs/promises"],
      ["../etcd/etcd.ts", "../faults.ts", "../deadline.ts"],
    ),
  },
  {
    file: "src/repository/catalog.ts",
    message: "imports: repository",
    ...imports(
      [...sdks, ...adapters, "../etcd/etcd.ts", "../snapshot/take.ts", "../cluster/observe.ts"],
      ["../store/store.ts", "../faults.ts", "zod", "node:crypto"],
    ),
  },
  {
    file: "src/doctor/etcd.ts",
    message: "imports: the doctor",
    ...imports(
      [...sdks, ...adapters, "../snapshot/backup.ts", "../config/schema.ts", "../cli/tools.ts", "../telemetry/log.ts"],
      [
        "./finding.ts",
        "../etcd/etcd.ts",
        "../store/store.ts",
        "../cluster/observe.ts",
        "../clock.ts",
        "node:fs/promises",
      ],
    ),
  },
  {
    file: "src/snapshot/backup.ts",
    message: "imports: a feature",
    ...imports(
      [
        ...sdks,
        ...adapters,
        "../telemetry/log.ts",
        "../cli/tools.ts",
        "../config/schema.ts",
        "../daemon/loop.ts",
        "../format.ts",
        "../compose.ts",
        "../stock/local.ts",
        "node:child_process",
      ],
      [
        "../etcd/etcd.ts",
        "../stock/stock.ts",
        "../store/store.ts",
        "../repository/catalog.ts",
        "../cluster/choose.ts",
        "../bolt/facts.ts",
        "../clock.ts",
        "node:fs/promises",
      ],
    ),
  },
  {
    file: "src/restore/steps.ts",
    message: "imports: restore may import contracts",
    ...imports(
      [
        ...sdks,
        ...adapters,
        "../telemetry/log.ts",
        "../cli/tools.ts",
        "../config/schema.ts",
        "../daemon/loop.ts",
        "../compose.ts",
        "../host/local.ts",
        "../service/systemd.ts",
        "../datadir/lifeboat.ts",
        "node:child_process",
      ],
      [
        "../etcd/etcd.ts",
        "../store/store.ts",
        "../host/host.ts",
        "../service/service.ts",
        "../datadir/datadir.ts",
        "../runbook/execute.ts",
        "../snapshot/backup.ts",
        "../repository/lock.ts",
        "../cluster/quiet.ts",
        "../clock.ts",
        "node:fs/promises",
      ],
    ),
  },
  {
    file: "src/rejoin/steps.ts",
    message: "imports: rejoin may import contracts",
    ...imports(
      [
        ...sdks,
        ...adapters,
        "../telemetry/log.ts",
        "../cli/tools.ts",
        "../config/schema.ts",
        "../compose.ts",
        "../host/local.ts",
        "../service/systemd.ts",
        "../snapshot/backup.ts",
        "node:fs/promises",
      ],
      [
        "../etcd/etcd.ts",
        "../host/host.ts",
        "../service/service.ts",
        "../runbook/execute.ts",
        "../restore/service-steps.ts",
        "../cluster/observe.ts",
        "../clock.ts",
      ],
    ),
  },
  {
    file: "src/daemon/loop.ts",
    message: "imports: daemon may import features",
    ...imports(
      [...sdks, ...adapters, "../telemetry/log.ts", "../cli/tools.ts", "../compose.ts", "../bolt/scan.ts"],
      ["../snapshot/backup.ts", "../clock.ts", "../events.ts"],
    ),
  },
  {
    file: "src/daemon/types.ts",
    message: "imports: daemon may import only types",
    forbidden: values(["../config/schema.ts", "../etcd/etcd.ts", "../store/store.ts"]),
    allowed: types(["../config/schema.ts", "../etcd/etcd.ts", "../store/store.ts"]),
  },
  {
    file: "src/cli/backup.ts",
    message: "imports: cli may import features",
    ...imports(
      [...sdks, ...adapters, "../telemetry/log.ts", "../daemon/loop.ts", "../compose.ts", "../bolt/scan.ts"],
      ["../snapshot/backup.ts", "../config/load.ts", "commander"],
    ),
  },
  {
    file: "src/cli/types.ts",
    message: "imports: cli may import only types",
    forbidden: values(["../etcd/etcd.ts", "../store/store.ts"]),
    allowed: types(["../etcd/etcd.ts", "../store/store.ts"]),
  },
  ...[
    "src/daemon/due.ts",
    "src/daemon/slots.ts",
    "src/cluster/choose.ts",
    "src/cluster/gates.ts",
    "src/snapshot/keep.ts",
    "src/snapshot/verdict.ts",
    "src/snapshot/pace.ts",
    "src/datadir/minors.ts",
    "src/cluster/quantile.ts",
    "src/daemon/trend.ts",
    "src/restore/aside-names.ts",
    "src/restore/plan.ts",
    "src/rejoin/gates.ts",
  ].map((file) => ({
    file,
    message: "imports: a pure file may import no package",
    ...imports(
      ["node:fs", "node:fs/promises", "node:crypto", "zod", "@grpc/grpc-js", "fs"],
      ["../faults.ts", "./slots.ts", "../cluster/choose.ts"],
    ),
  })),
  {
    file: "src/archive/choose.ts",
    message: "imports: a pure file may import nothing from",
    ...imports(
      [
        "../etcd/etcd.ts",
        "../store/store.ts",
        "../host/host.ts",
        "../service/service.ts",
        "../etcd/connect.ts",
        "../telemetry/log.ts",
        "../config/load.ts",
        "../cli/tools.ts",
        "../workers/worker.ts",
      ],
      [],
    ),
  },
  {
    file: "src/upgrade/plan.ts",
    message: "imports: a pure file may import values",
    forbidden: values([
      "./observe.ts",
      "../cluster/observe.ts",
      "../repository/catalog.ts",
      "../bolt/scan.ts",
      "../clock.ts",
      "../events.ts",
      "../compose.ts",
    ]),
    allowed: [
      ...types(["./observe.ts", "../cluster/observe.ts", "../bolt/facts.ts"]),
      ...values(["./gates.ts", "../faults.ts"]),
    ],
  },
  {
    file: "src/archive/due.ts",
    message: "pure: the time comes from the caller",
    forbidden: [
      "export const a = Date.now();",
      "export const b = new Date();",
      "export const c = performance.now();",
      "export const d = Temporal.Now;",
    ],
    allowed: [
      "export const e = new Intl.DateTimeFormat('en-US').resolvedOptions();",
      "export const f = Math.max(1, 2);",
    ],
  },
  {
    file: "src/archive/keep.ts",
    message: "pure: nothing waits in here",
    forbidden: [
      "setTimeout(f, 1);",
      "setInterval(f, 1);",
      "setImmediate(f);",
      "queueMicrotask(f);",
      "export const s = AbortSignal.timeout(1);",
    ],
    allowed: ["export function f(): void {}"],
  },
  {
    file: "src/inspect/choose.ts",
    message: "pure: no randomness in here",
    forbidden: ["export const a = Math.random();", "export const b = crypto.randomUUID();"],
    allowed: ["export const c = Math.abs(-1);"],
  },
  {
    file: "src/archive/gates.ts",
    message: "pure: facts come from the caller",
    forbidden: ["export const a = process.env;"],
    allowed: [],
  },
  {
    file: "src/archive/plan.ts",
    message: "pure: no input or output in here",
    forbidden: ["fetch('x');", "console.log(1);", "require('fs');"],
    allowed: [],
  },
  {
    file: "src/archive/slots.ts",
    message: "pure: no way around the other rules",
    forbidden: ["export const a = globalThis;", "export const b = global;"],
    allowed: [],
  },
  {
    file: "src/snapshot/exit.ts",
    message: "only src/main.ts ends the process",
    forbidden: ["process.exit(1);"],
    allowed: ["process.exitCode = 1;"],
  },
  {
    file: "test/anything.test.ts",
    message: "",
    forbidden: [],
    allowed: [
      ...values(["../src/compose.ts", "../src/store/s3.ts", "node:fs/promises", "zod"]),
      "setTimeout(() => {}, Date.now());",
    ],
  },
];

/** Each specifier in every form that an import can have. */
function imports(forbidden: readonly string[], allowed: readonly string[]): Pick<Row, "forbidden" | "allowed"> {
  return { forbidden: forbidden.flatMap(everyForm), allowed: allowed.flatMap(everyForm) };
}

function everyForm(specifier: string): readonly string[] {
  return [...values([specifier]), ...types([specifier])];
}

function values(specifiers: readonly string[]): readonly string[] {
  return specifiers.flatMap((from) => [
    `import { a${next()} } from "${from}";`,
    `import "${from}";`,
    `export { b${next()} } from "${from}";`,
    `export * from "${from}";`,
    `export const c${next()} = await import("${from}");`,
  ]);
}

function types(specifiers: readonly string[]): readonly string[] {
  return specifiers.flatMap((from) => [
    `import type { A${next()} } from "${from}";`,
    `export type { B${next()} } from "${from}";`,
  ]);
}

interface Diagnostic {
  readonly code: string;
  readonly message: string;
  readonly help: string | undefined;
  readonly filename: string;
  readonly labels: readonly { readonly span: { readonly line: number } }[];
}

function next(): number {
  return (names += 1);
}

let tree: string;
let rules: string;
let diagnostics: readonly Diagnostic[];

beforeAll(async () => {
  rules = await readFile(join(root, ".oxlintrc.json"), "utf8");
  tree = await mkdtemp(join(tmpdir(), "lifeboat-lint-"));
  for (const { file, forbidden, allowed } of rows) {
    await mkdir(dirname(join(tree, file)), { recursive: true });
    await writeFile(join(tree, file), [...forbidden, ...allowed].join("\n"));
  }
  await cp(join(root, "tsconfig.json"), join(tree, "tsconfig.json"));
  await symlink(join(root, "node_modules"), join(tree, "node_modules"));
  // Types are another matter than imports, and nothing that is imported here exists.
  const untyped = rules.replace('"typeAware": true', '"typeAware": false');
  expect(untyped).not.toBe(rules);
  await writeFile(join(tree, ".oxlintrc.json"), untyped);
  diagnostics = await lint(tree);
});

afterAll(async () => {
  await rm(tree, { recursive: true, force: true });
});

function lint(directory: string): Promise<readonly Diagnostic[]> {
  const oxlint = join(root, "node_modules/.bin/oxlint");
  return new Promise((resolve, reject) => {
    execFile(oxlint, ["--format", "json"], { cwd: directory, maxBuffer: 2 ** 26 }, (error, stdout) => {
      try {
        resolve((JSON.parse(stdout) as { diagnostics: readonly Diagnostic[] }).diagnostics);
      } catch (cause) {
        reject(new Error(`oxlint gave no diagnostics: ${stdout.slice(0, 500)}`, { cause: error ?? cause }));
      }
    });
  });
}

/** What the restrictions said of each line of a file, lines counted from 0. */
function said(file: string): ReadonlyMap<number, string> {
  const restricting = diagnostics.filter(({ code, filename }) => code.includes("no-restricted-") && filename === file);
  const lines = new Map<number, string>();
  for (const { message, help, labels } of restricting) {
    const line = (labels[0]?.span.line ?? 0) - 1;
    lines.set(line, `${lines.get(line) ?? ""}${message}\n${help ?? ""}\n`);
  }
  return lines;
}

describe.each(rows.map((row) => [row.file, row] as const))("%s", (file, row) => {
  test("every forbidden line is caught, with the row's own message", () => {
    const found = said(file);
    const missed = row.forbidden.filter((_, line) => found.get(line)?.includes(row.message) !== true);
    expect(missed).toEqual([]);
  });

  test("every allowed line passes", () => {
    const found = said(file);
    const caught = row.allowed.filter((_, index) => found.has(row.forbidden.length + index));
    expect(caught).toEqual([]);
  });
});

describe("the table is whole", () => {
  test("no restriction exists without a planted violation of it", () => {
    const messages = [...rules.matchAll(/"message":\s*"([^"]+)"/g)].map(([, message]) => message ?? "");
    expect(messages.length).toBeGreaterThan(20);
    const planted = rows.map(({ message }) => message).filter((message) => message !== "");
    expect(messages.filter((message) => !planted.some((start) => message.startsWith(start)))).toEqual([]);
  });

  test("every folder of src has its row in the linter and in ARCHITECTURE.md", async () => {
    const architecture = await readFile(join(root, "ARCHITECTURE.md"), "utf8");
    const table = architecture.split("\n").filter((line) => line.startsWith("|"));
    const entries = await readdir(join(root, "src"), { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    expect(folders.length).toBeGreaterThan(5);
    expect(folders.filter((name) => !rules.includes(`"src/${name}/**"`))).toEqual([]);
    expect(folders.filter((name) => !table.some((line) => line.split("|")[1]?.includes(`\`${name}\``)))).toEqual([]);
  });

  test("every single file of src has its row in the linter", async () => {
    const entries = await readdir(join(root, "src"), { withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
    expect(files.filter((name) => !rules.includes(`"src/${name}"`))).toEqual([]);
  });
});
