import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../src/faults.ts";
import type { Host } from "../../src/host/host.ts";
import { openLocalHost as openReally } from "../../src/host/local.ts";

/**
 * Hosts of this machine of which one is lost, as by a power cut: in the middle of a command and for every later one, until the file that LOSING_HOST names says otherwise.
 */
export interface Losing {
  readonly host: string;
  /** The call at which it is lost: the method, and what its arguments contain. */
  readonly at: { readonly method: keyof Host; readonly contains: string };
  /** Directories of the services that run there (service.ts). */
  readonly services: readonly string[];
  readonly state: "well" | "lost" | "back";
}

const services = join(import.meta.dirname, "service.ts");

/** Whether the call reaches nobody. */
function reachesNobody(name: string, method: string, args: readonly unknown[]): boolean {
  const file = process.env["LOSING_HOST"];
  if (file === undefined) return false;
  const losing = JSON.parse(readFileSync(file, "utf8")) as Losing;
  if (losing.host !== name) return false;
  const { at, state } = losing;
  if (state !== "well") return state === "lost";
  const words = args.flat().filter((arg) => typeof arg === "string");
  if (method !== at.method || !words.join(" ").includes(at.contains)) return false;
  for (const directory of losing.services) spawnSync(process.execPath, [services, "power-off", directory]);
  writeFileSync(file, JSON.stringify({ ...losing, state: "lost" }));
  return true;
}

export function openLocalHost(name: string): Host {
  return new Proxy(openReally(name), {
    get(host, key) {
      const value: unknown = Reflect.get(host, key);
      if (typeof value !== "function" || typeof key !== "string") return value;
      return (...args: readonly unknown[]): unknown => {
        if (!reachesNobody(name, key, args)) return Reflect.apply(value, host, args);
        const fault = new Fault("host-unreachable", `${name} cannot be reached`);
        return key === "send" ? failing(fault) : Promise.reject(fault);
      };
    },
  });
}

function failing(fault: Fault): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: async () => await Promise.reject(fault) }) };
}
