import { chmod, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type * as protoLoader from "@grpc/proto-loader";
import { build, type Metafile, type Plugin } from "esbuild";
import protobuf from "protobufjs";

/**
 * Makes the release: dist/etcd-lifeboat.cjs, one file that runs where there is Node and nothing else, and dist/LICENSES.txt with the licences of
 * what is in it. Everything that a package reads beside itself at run time is put inside here, and the build fails when it is not where it was.
 */

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "dist", "etcd-lifeboat.cjs");

/** Code that looks for files beside itself, and why that is well. */
const mayLookBeside = [
  "src/etcd/proto.ts", // replaced here
  "src/workers/worker.ts", // starts the very file that it is in
  "node_modules/etcd3/lib/connection-pool.js", // replaced here
  "node_modules/@grpc/grpc-js/build/src/channelz.js", // the protocol file of a debug service, never called
  "node_modules/@grpc/grpc-js/build/src/orca.js", // the same for load reports
  "node_modules/node-cron/dist/node-cron.js", // the program of a background task; only its parser of expressions is used
  "node_modules/@colors/colors/lib/colors.js", // themes by file name, never called
];

await rm(join(root, "dist"), { recursive: true, force: true });
await mkdir(join(root, "dist"));
const result = await build({
  absWorkingDir: root,
  entryPoints: ["src/etcd-lifeboat.cjs"],
  outfile: out,
  bundle: true,
  platform: "node",
  format: "cjs",
  // Old enough that an older Node gets as far as the line that says what is needed.
  target: "node18",
  // A stack trace of a release should name functions as the source does.
  keepNames: true,
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
  define: { "import.meta.url": "bundleUrl" },
  banner: { js: 'var bundleUrl = require("url").pathToFileURL(__filename).href;' },
  plugins: [embedOwnProtocol(), embedProtocolOfEtcd3()],
});
if (result.warnings.length > 0) throw new Error("the bundler warned; see above");
await refuseNeighbours(result.metafile);
await chmod(out, 0o755);
const packages = await licences(result.metafile);
await writeFile(join(root, "dist", "LICENSES.txt"), renderLicences(packages));
const size = result.metafile.outputs["dist/etcd-lifeboat.cjs"]?.bytes ?? 0;
console.log(
  `dist/etcd-lifeboat.cjs: ${(size / 2 ** 20).toFixed(1)} MiB, ${packages.length} packages in dist/LICENSES.txt`,
);

/** src/etcd/proto.ts reads etcd.proto beside itself; in the bundle it is the text. */
function embedOwnProtocol(): Plugin {
  return {
    name: "embed-own-protocol",
    setup({ onLoad, onEnd }) {
      let done = false;
      onLoad({ filter: /src[/\\]etcd[/\\]proto\.ts$/ }, async ({ path }) => {
        const source = await readFile(path, "utf8");
        const exported = [...source.matchAll(/^export /gm)].length;
        if (exported !== 1 || !/^export const protoText: string = readFileSync\(/m.test(source)) {
          throw new Error(
            "src/etcd/proto.ts is not what scripts/build.ts replaces: one export, protoText, read from a file",
          );
        }
        done = true;
        const text = await readFile(join(dirname(path), "etcd.proto"), "utf8");
        return { contents: `export const protoText = ${JSON.stringify(text)};`, loader: "js" };
      });
      onEnd(() => {
        if (!done) throw new Error("src/etcd/proto.ts is not in the bundle; scripts/build.ts expects it there");
      });
    },
  };
}

/** etcd3 loads rpc.proto from its own folder; in the bundle it gets the parsed files as JSON, which give the same definitions. */
function embedProtocolOfEtcd3(): Plugin {
  const load = "(0, proto_loader_1.loadSync)(`${__dirname}/../proto/rpc.proto`, {";
  return {
    name: "embed-protocol-of-etcd3",
    setup({ onLoad, onEnd }) {
      let done = false;
      onLoad({ filter: /node_modules[/\\]etcd3[/\\]lib[/\\]connection-pool\.js$/ }, async ({ path }) => {
        const parts = (await readFile(path, "utf8")).split(load);
        if (parts.length !== 2)
          throw new Error(`etcd3 does not load its protocol as scripts/build.ts expects it: ${load}`);
        const json = protocolAsJson(join(dirname(path), "../proto/rpc.proto"), path);
        done = true;
        return { contents: parts.join(`(0, proto_loader_1.fromJSON)(${JSON.stringify(json)}, {`), loader: "js" };
      });
      onEnd(() => {
        if (!done)
          throw new Error("etcd3/lib/connection-pool.js is not in the bundle; scripts/build.ts expects it there");
      });
    },
  };
}

/** Fails unless the loader that etcd3 uses makes the same of the JSON as of the file. */
function protocolAsJson(file: string, importer: string): protobuf.INamespace {
  const loader = createRequire(importer)("@grpc/proto-loader") as Pick<typeof protoLoader, "loadSync" | "fromJSON">;
  const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
  const json = new protobuf.Root().loadSync(file, { keepCase: true }).resolveAll().toJSON();
  if (describeDefinitions(loader.fromJSON(json, options)) !== describeDefinitions(loader.loadSync(file, options))) {
    throw new Error(`${file} does not survive as JSON`);
  }
  return json;
}

/** Methods, fields, types and numbers as text; the functions in between are made from them. */
function describeDefinitions(definitions: protoLoader.PackageDefinition): string {
  return JSON.stringify(definitions);
}

/** What looks for files beside itself would not find them: only what is known is let through. */
async function refuseNeighbours(metafile: Metafile): Promise<void> {
  for (const input of Object.keys(metafile.inputs)) {
    if (mayLookBeside.some((path) => input.endsWith(path))) continue;
    const source = await readFile(join(root, input), "utf8");
    const code = source.replaceAll(/^\s*(?:\/\/|\*).*$/gm, "");
    if (/\b__dirname\b|\bimport\.meta\.(?:url|dirname|filename)\b/.test(code)) {
      throw new Error(
        `${input} looks for files beside itself; embed them in scripts/build.ts, or add it to mayLookBeside`,
      );
    }
  }
}

interface Package {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly texts: readonly string[];
}

async function licences(metafile: Metafile): Promise<readonly Package[]> {
  const folders = new Set<string>();
  for (const input of Object.keys(metafile.inputs)) {
    const parts = input.split(/[/\\]/);
    const last = parts.lastIndexOf("node_modules");
    if (last < 0) continue;
    folders.add(parts.slice(0, last + (parts[last + 1]?.startsWith("@") === true ? 3 : 2)).join(sep));
  }
  const packages = await Promise.all([...folders].map(readPackage));
  return packages.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.version < b.version ? -1 : 1));
}

async function readPackage(folder: string): Promise<Package> {
  const directory = join(root, folder);
  const manifest = JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as {
    name: string;
    version: string;
    license?: string | { type: string };
  };
  const license = typeof manifest.license === "object" ? manifest.license.type : manifest.license;
  const files = (await readdir(directory)).filter((name) => /^(?:licen[cs]e|copying|notice)(?:[.-].*)?$/i.test(name));
  const texts = await Promise.all(files.toSorted().map((name) => readFile(join(directory, name), "utf8")));
  if (texts.length === 0 && license !== "Apache-2.0") throw new Error(`${folder} brings no text of its licence`);
  // Some packages only name it; ours is the same text.
  if (texts.length === 0) texts.push(await readFile(join(root, "LICENSE"), "utf8"));
  return { name: manifest.name, version: manifest.version, license: license ?? "see below", texts };
}

function renderLicences(packages: readonly Package[]): string {
  const line = "=".repeat(80);
  const head = "etcd-lifeboat contains the following packages, each under its own licence.\n";
  return [
    head,
    ...packages.map(
      ({ name, version, license, texts }) =>
        `${line}\n${name} ${version} (${license})\n${line}\n\n${texts.map((text) => text.trim()).join("\n\n")}\n`,
    ),
  ].join("\n");
}
