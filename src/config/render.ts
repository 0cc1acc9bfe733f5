import type { LoadedConfig } from "./load.ts";
import { isSection } from "./path.ts";
import type { Origin, Setting } from "./settings.ts";

export { configJsonSchema } from "./schema.ts";

/** What `config show --json` prints; fields are only added. */
export interface ConfigShowDocument {
  readonly schema: "etcd-lifeboat/config-show/v1";
  readonly file: string;
  readonly settings: readonly { readonly path: string; readonly value: unknown; readonly origin: Origin | undefined }[];
  readonly warnings: readonly { readonly about: string; readonly message: string }[];
}

/** The effective configuration for people: one line per value, with its origin; secrets only say where they are. */
export function renderConfig(loaded: LoadedConfig): string {
  const rows = loaded.settings.map(
    (setting) => [setting.path, shown(setting), describeOrigin(loaded, setting.path)] as const,
  );
  const pathWidth = Math.min(48, Math.max(...rows.map(([path]) => path.length)));
  const valueWidth = Math.min(64, Math.max(...rows.map(([, value]) => value.length)));
  return rows
    .map(([path, value, origin]) => `${path.padEnd(pathWidth)}  ${value.padEnd(valueWidth)}  ${origin}\n`)
    .join("");
}

/** The same as one JSON document. */
export function configDocument(loaded: LoadedConfig): ConfigShowDocument {
  return {
    schema: "etcd-lifeboat/config-show/v1",
    file: loaded.path,
    settings: loaded.settings.map(({ path, value }) => ({ path, value, origin: loaded.origins.get(path) })),
    warnings: loaded.warnings,
  };
}

function shown({ value, secret }: Setting): string {
  if (secret && isSection(value)) {
    const [kind, place] = Object.entries(value)[0] ?? ["", ""];
    return `(secret from ${kind} ${String(place)})`;
  }
  // Quotes only where the bare word would be ambiguous or hold what a terminal must not see.
  return typeof value === "string" && /^[!-~]+( [!-~]+)*$/.test(value) ? value : JSON.stringify(value);
}

function describeOrigin(loaded: LoadedConfig, path: string): string {
  const origin = loaded.origins.get(path);
  switch (origin?.kind) {
    case "file":
      return `${loaded.path}:${origin.line}:${origin.column}`;
    case "env":
      return `from ${origin.name}`;
    case "default":
    case undefined:
      return "default";
  }
}
