import { Fault } from "../faults.ts";
import type { Host } from "../host/host.ts";

/** Which operation holds a service, in a file of the host that outlives a reboot and this program. */

interface Held {
  readonly name: string;
  /** Directory of ours on the host. */
  readonly stateDirectory: string;
}

function pathOf({ name, stateDirectory }: Held): string {
  return `${stateDirectory}/held/${name}`;
}

/** The operation's id; undefined: nobody holds it. */
export async function readHold(host: Host, service: Held, signal: AbortSignal): Promise<string | undefined> {
  const bytes = await host.readFile(pathOf(service), 200, signal);
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes).trim();
}

/** Rejects with `service-held` where another operation holds it. */
export async function writeHold(host: Host, service: Held, operation: string, signal: AbortSignal): Promise<void> {
  const before = await readHold(host, service, signal);
  if (before === operation) return;
  if (before !== undefined) {
    throw new Fault("service-held", `${service.name} on ${host.name} is held by operation ${before}`, {
      hint: "finish that one first, or take it back",
    });
  }
  await host.makeDirectory(`${service.stateDirectory}/held`, { mode: 0o700 }, signal);
  await host.writeFile(pathOf(service), new TextEncoder().encode(`${operation}\n`), { mode: 0o600 }, signal);
}

export async function removeHold(host: Host, service: Held, signal: AbortSignal): Promise<void> {
  await host.removeFile(pathOf(service), signal);
}
