import { Fault } from "../faults.ts";
import type { Host } from "../host/host.ts";

/** Which operation holds a service, in a file of the host that outlives a reboot and this program. */

interface Held {
  readonly name: string;
  /** Directory of ours on the host. */
  readonly stateDirectory: string;
}

/** Who holds a service, and how it was found. */
export interface Hold {
  readonly operation: string;
  /** Nothing started it at a boot, so nothing shall afterwards. */
  readonly wasDisabled: boolean;
}

/** On a line of its own, behind the operation. */
const disabledMark = "disabled";

function pathOf({ name, stateDirectory }: Held): string {
  return `${stateDirectory}/held/${name}`;
}

/** Undefined: nobody holds it. */
export async function readHold(host: Host, service: Held, signal: AbortSignal): Promise<Hold | undefined> {
  const bytes = await host.readFile(pathOf(service), 200, signal);
  if (bytes === undefined) return undefined;
  const [operation = "", mark] = new TextDecoder().decode(bytes).trim().split("\n");
  return { operation, wasDisabled: mark === disabledMark };
}

/** Asks how it is only where nobody has held it yet: afterwards it is as the hold made it. Rejects with `service-held` where another operation holds it. */
export async function writeHold(
  host: Host,
  service: Held,
  operation: string,
  isDisabled: () => Promise<boolean>,
  signal: AbortSignal,
): Promise<void> {
  const before = await readHold(host, service, signal);
  if (before?.operation === operation) return;
  if (before !== undefined) {
    throw new Fault("service-held", `${service.name} on ${host.name} is held by operation ${before.operation}`, {
      hint: "finish that one first, or take it back",
    });
  }
  const lines = [operation, ...((await isDisabled()) ? [disabledMark] : [])];
  await host.makeDirectory(`${service.stateDirectory}/held`, { mode: 0o700 }, signal);
  const bytes = new TextEncoder().encode(`${lines.join("\n")}\n`);
  await host.writeFile(pathOf(service), bytes, { mode: 0o600 }, signal);
}

export async function removeHold(host: Host, service: Held, signal: AbortSignal): Promise<void> {
  await host.removeFile(pathOf(service), signal);
}
