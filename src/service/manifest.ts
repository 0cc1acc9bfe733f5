import { parse } from "yaml";

/** What a static pod's manifest says that matters here. Paths are the host's, not the container's. */
export interface StaticPodFacts {
  readonly name: string;
  readonly containers: readonly ContainerFacts[];
}

export interface ContainerFacts {
  readonly name: string;
  readonly image: string | undefined;
  /** Command and arguments; undefined where the image says them. */
  readonly argv: readonly string[] | undefined;
  /** etcd's data directory on the host: the volume's hostPath, whatever --data-dir says inside. Undefined where there is none, or on no hostPath. */
  readonly dataDirectory: string | undefined;
  readonly walDirectory: string | undefined;
}

/** Reads a manifest; undefined for what is no pod. */
export function readManifest(text: string): StaticPodFacts | undefined {
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: 100 });
  } catch {
    // Whatever it is, the kubelet does not run it either.
    return undefined;
  }
  const pod = section(document);
  const name = section(pod["metadata"])["name"];
  if (pod["kind"] !== "Pod" || typeof name !== "string") return undefined;
  const spec = section(pod["spec"]);
  const volumes = new Map(
    list(spec["volumes"]).map((volume) => [section(volume)["name"], section(section(volume)["hostPath"])["path"]]),
  );
  return { name, containers: list(spec["containers"]).map((container) => containerOf(section(container), volumes)) };
}

function containerOf(container: Section, volumes: ReadonlyMap<unknown, unknown>): ContainerFacts {
  const command = texts(container["command"]);
  const argv = command === undefined ? undefined : [...command, ...(texts(container["args"]) ?? [])];
  const flags = argv ?? texts(container["args"]) ?? [];
  const variables = new Map(list(container["env"]).map((entry) => [section(entry)["name"], section(entry)["value"]]));
  const mounts = list(container["volumeMounts"]).map(section);
  const onHost = (flag: string, variable: string): string | undefined => {
    const inside = flagOf(flags, flag) ?? variables.get(variable);
    return typeof inside === "string" ? hostPathOf(inside, mounts, volumes) : undefined;
  };
  const { name, image } = container;
  return {
    name: typeof name === "string" ? name : "",
    image: typeof image === "string" ? image : undefined,
    argv,
    dataDirectory: onHost("data-dir", "ETCD_DATA_DIR"),
    walDirectory: onHost("wal-dir", "ETCD_WAL_DIR"),
  };
}

/** `--flag=value` or `--flag value`; Go takes one dash as well. */
function flagOf(argv: readonly string[], flag: string): string | undefined {
  for (const [index, argument] of argv.entries()) {
    const [, name, value] = /^--?([a-z-]+)(?:=(.*))?$/s.exec(argument) ?? [];
    if (name === flag) return value ?? argv[index + 1];
  }
  return undefined;
}

/** Where a path inside the container is on the host, by the innermost mount. */
function hostPathOf(
  inside: string,
  mounts: readonly Section[],
  volumes: ReadonlyMap<unknown, unknown>,
): string | undefined {
  let best: { readonly at: string; readonly path: string } | undefined;
  for (const { mountPath, name, subPath } of mounts) {
    const path = volumes.get(name);
    if (typeof mountPath !== "string" || typeof path !== "string") continue;
    const at = mountPath.replace(/\/+$/, "");
    if (inside !== at && !inside.startsWith(`${at}/`)) continue;
    if (best !== undefined && best.at.length >= at.length) continue;
    best = { at, path: typeof subPath === "string" ? `${path.replace(/\/+$/, "")}/${subPath}` : path };
  }
  if (best === undefined) return undefined;
  return `${best.path.replace(/\/+$/, "")}${inside.slice(best.at.length)}`.replace(/\/+$/, "");
}

type Section = Readonly<Record<string, unknown>>;

function section(value: unknown): Section {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Section) : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function texts(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
}
