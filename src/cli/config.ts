import { loadConfig } from "../config/load.ts";
import { configDocument, configJsonSchema, renderConfig } from "../config/render.ts";
import { escapeControls } from "../format.ts";
import { printJson, type CommonOptions, type Environment } from "./tools.ts";

/** Reads the configuration and every file it names; 78 with all problems at once, else 0. */
export function configCheckCommand({ console }: Environment, options: CommonOptions): number {
  const loaded = loadConfig({ path: options.config, env: console.env });
  if (options.json === true) {
    printJson(console, { schema: "etcd-lifeboat/config-check/v1", file: loaded.path, warnings: loaded.warnings });
  } else {
    for (const { about, message } of loaded.warnings) console.err(`warning: ${about}: ${escapeControls(message)}\n`);
    console.out(`${loaded.path}: ok\n`);
  }
  return 0;
}

/** Shows every effective value with its origin; secrets only say where they are. */
export function configShowCommand({ console }: Environment, options: CommonOptions): number {
  const loaded = loadConfig({ path: options.config, env: console.env });
  if (options.json === true) printJson(console, configDocument(loaded));
  else console.out(renderConfig(loaded));
  return 0;
}

/** Prints the JSON schema of the configuration, for editors. */
export function configSchemaCommand({ console }: Environment): number {
  printJson(console, configJsonSchema());
  return 0;
}
