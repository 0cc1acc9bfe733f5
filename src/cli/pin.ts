import { Fault } from "../faults.ts";
import { escapeControls } from "../format.ts";
import { findEntry } from "../repository/catalog.ts";
import { formatInstant } from "../repository/documents.ts";
import { pinsOf, readPin, writePin } from "../repository/pin.ts";
import { openCatalog, tellRefused } from "./list.ts";
import { printJson, type CommonOptions, type Environment } from "./tools.ts";

export interface PinOptions extends CommonOptions {
  readonly reason: string;
}

export interface UnpinOptions extends CommonOptions {
  readonly reason?: string;
}

/** Pins a backup, so that retention never removes it. */
export async function pinCommand(environment: Environment, wanted: string, options: PinOptions): Promise<number> {
  if (options.reason.trim() === "")
    throw new Fault("usage", "the reason is empty", { hint: "say why, for those who come after: --reason TEXT" });
  return await append(environment, wanted, { ...options, pinned: true });
}

/** Leaves a pinned backup to retention again. */
export async function unpinCommand(environment: Environment, wanted: string, options: UnpinOptions): Promise<number> {
  return await append(environment, wanted, { ...options, reason: options.reason ?? "", pinned: false });
}

async function append(
  environment: Environment,
  wanted: string,
  options: CommonOptions & { readonly pinned: boolean; readonly reason: string },
): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const { catalog, store } = await openCatalog(tools, [wanted], signal);
  tellRefused(console, catalog);
  const { manifest, listed } = findEntry(catalog, wanted);
  const [trusted, signer] = [await tools.trusted(), await tools.signer()];
  if (trusted !== undefined && signer === undefined) {
    throw new Fault(
      "config-invalid",
      "keys are trusted, but there is none to sign with: nobody would believe the pin",
      {
        hint: "run it where repository.signing.key is set",
      },
    );
  }
  const { repository, lineage, backup } = manifest;
  const belief = { repository, trusted };
  const before = await readPin(store, pinsOf(catalog, listed), belief, signal);
  const pinned = before?.pinned === true;
  if (!options.pinned && !pinned) {
    console.err(`${backup} is not pinned\n`);
    if (options.json === true) printJson(console, documentOf(false, lineage, backup, null));
    return 0;
  }
  const entry = { repository, lineage, backup, id: tools.newId(), madeAt: formatInstant(tools.clock.now()) };
  const pin = await writePin(store, { ...entry, pinned: options.pinned, reason: options.reason }, signer, signal);
  if (options.json === true) printJson(console, documentOf(options.pinned, lineage, backup, pin.reason));
  else if (options.pinned) console.out(`${backup} is pinned: ${escapeControls(pin.reason)}\n`);
  else console.out(`${backup} is not pinned any more\n`);
  return 0;
}

function documentOf(pinned: boolean, lineage: string, backup: string, reason: string | null): object {
  return { schema: "etcd-lifeboat/pin-state/v1", lineage, backup, pinned, reason };
}
