import { Fault } from "../faults.ts";
import type { LoadedConfig } from "../config/load.ts";
import type { CommonOptions, Environment } from "./tools.ts";

/** Runs the daemon until a signal comes; a clean stop is a success. */
export async function runCommand(environment: Environment, options: CommonOptions): Promise<number> {
  await using tools = environment.open(options.config);
  requireSchedules(tools.loaded);
  await environment.daemon(tools, environment.signal);
  return 0;
}

/** Throws `config-invalid` for a configuration that would leave the daemon without work. */
export function requireSchedules({ path, config }: LoadedConfig): void {
  if (config.schedules.length > 0) return;
  throw new Fault("config-invalid", `${path} has no schedules: run would never take a backup`, {
    hint: 'add one, such as: schedules: [{ name: hourly, cron: "0 * * * *" }]',
  });
}
