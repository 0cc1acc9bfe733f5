import { Fault } from "../faults.ts";
import type { CommonOptions, Environment } from "./tools.ts";

/** Runs the daemon until a signal comes; a clean stop is a success. */
export async function runCommand(environment: Environment, options: CommonOptions): Promise<number> {
  await using tools = environment.open(options.config);
  if (tools.loaded.config.schedules.length === 0) {
    throw new Fault("config-invalid", `${tools.loaded.path} has no schedules: run would never take a backup`, {
      hint: 'add one, such as: schedules: [{ name: hourly, cron: "0 * * * *" }]',
    });
  }
  await environment.daemon(tools, environment.signal);
  return 0;
}
