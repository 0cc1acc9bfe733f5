import { resolve } from "node:path";
import { dotted, isSection, storePaths, valueAt } from "./path.ts";
import type { Path } from "./path.ts";

/** Environment variables, as process.env has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** A configuration as written, with what the environment adds. */
export interface Filled {
  readonly input: unknown;
  /** Dotted path of what was added, with the variable it came from. */
  readonly variables: ReadonlyMap<string, string>;
}

/**
 * Adds what the file leaves out and the variables of etcdctl and of the AWS SDK give. The file always wins.
 * A password is added as a reference to its variable, never as its value.
 */
export function fillFromEnvironment(written: unknown, env: Environment): Filled {
  if (!isSection(written)) return { input: written, variables: new Map() };
  // A copy, since a YAML alias may stand for one object at two places.
  const input: unknown = structuredClone(written);
  const variables = new Map<string, string>();
  const add = (path: Path, variable: string, value: unknown): void => {
    if (valueAt(input, path) !== undefined || !put(input, path, value)) return;
    variables.set(dotted(path), variable);
  };
  fillCluster(input, env, add);
  fillS3(input, env, add);
  return { input, variables };
}

type Add = (path: Path, variable: string, value: unknown) => void;

function fillCluster(input: unknown, env: Environment, add: Add): void {
  const files = [
    ["ca", "ETCDCTL_CACERT"],
    ["cert", "ETCDCTL_CERT"],
    ["key", "ETCDCTL_KEY"],
  ] as const;
  const fromVariable = (env["ETCDCTL_ENDPOINTS"] ?? "").split(",").map((endpoint) => endpoint.trim());
  const endpoints: unknown = valueAt(input, ["cluster", "endpoints"]) ?? fromVariable;
  const plain =
    Array.isArray(endpoints) && endpoints.every((url: unknown) => typeof url === "string" && /^http:/i.test(url));
  // A certificate of the file and a key of the environment would never fit.
  const ownPair = ["cert", "key"].some((name) => valueAt(input, ["cluster", "tls", name]) !== undefined);
  for (const [name, variable] of files) {
    const file = env[variable];
    if (file === undefined || file === "" || plain || (ownPair && name !== "ca")) continue;
    add(["cluster", "tls", name], variable, resolve(file));
  }

  if (fromVariable.some((endpoint) => endpoint !== "")) {
    const scheme = valueAt(input, ["cluster", "tls"]) === undefined ? "http" : "https";
    const urls = fromVariable.map((endpoint) => (endpoint.includes("://") ? endpoint : `${scheme}://${endpoint}`));
    add(["cluster", "endpoints"], "ETCDCTL_ENDPOINTS", urls);
  }

  // As etcdctl reads them: without ETCDCTL_PASSWORD, what follows the first colon of ETCDCTL_USER is the password.
  const user = env["ETCDCTL_USER"] ?? "";
  const separate = (env["ETCDCTL_PASSWORD"] ?? "") !== "";
  const hasUser = valueAt(input, ["cluster", "auth", "username"]) !== undefined;
  if (user !== "" && !hasUser) {
    const colon = separate ? -1 : user.indexOf(":");
    add(["cluster", "auth", "username"], "ETCDCTL_USER", colon === -1 ? user : user.slice(0, colon));
    if (colon !== -1) add(["cluster", "auth", "password"], "ETCDCTL_USER", { env: "ETCDCTL_USER" });
  }
  if (separate && (hasUser || user !== "")) {
    add(["cluster", "auth", "password"], "ETCDCTL_PASSWORD", { env: "ETCDCTL_PASSWORD" });
  }
}

function fillS3(input: unknown, env: Environment, add: Add): void {
  for (const path of storePaths(input)) fillBucket(input, [...path, "s3"], env, add);
}

function fillBucket(input: unknown, s3: Path, env: Environment, add: Add): void {
  if (!isSection(valueAt(input, s3))) return;
  const first = (...names: readonly string[]): readonly [string, string] | undefined => {
    for (const name of names) {
      const value = env[name];
      if (value !== undefined && value !== "") return [name, value];
    }
    return undefined;
  };
  const region = first("AWS_REGION", "AWS_DEFAULT_REGION");
  if (region !== undefined) add([...s3, "region"], ...region);
  const ignored = env["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]?.toLowerCase() === "true";
  const endpoint = ignored ? undefined : first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  if (endpoint !== undefined) add([...s3, "endpoint"], ...endpoint);
  const ca = first("AWS_CA_BUNDLE");
  if (ca !== undefined) add([...s3, "ca"], ca[0], resolve(ca[1]));
}

/** Puts a value at a path, making the sections on the way; false where something else stands in the way. */
function put(input: unknown, path: Path, value: unknown): boolean {
  let section = input;
  for (const [depth, step] of path.entries()) {
    if (Array.isArray(section) && typeof step === "number") {
      section = section[step] as unknown;
      continue;
    }
    if (!isSection(section)) return false;
    const last = depth === path.length - 1;
    if (last || !Object.hasOwn(section, step)) {
      Object.defineProperty(section, step, {
        value: last ? value : {},
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    section = section[step];
  }
  return true;
}
