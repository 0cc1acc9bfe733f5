import { exitStatuses, faultKinds } from "../faults.ts";
import { formatTable } from "./table.ts";
import { printJson, type Environment } from "./tools.ts";

/** Prints the one table of exit statuses and the faults behind them. */
export function exitStatusesCommand({ console }: Environment, options: { readonly json?: boolean }): number {
  const faults = Object.entries(faultKinds).map(([code, { exit, retryable, means }]) => ({
    code,
    exit,
    retryable,
    means,
  }));
  const statuses = Object.entries(exitStatuses).map(([status, means]) => ({ status: Number(status), means }));
  if (options.json === true) {
    printJson(console, { schema: "etcd-lifeboat/exit-statuses/v1", statuses, faults });
    return 0;
  }
  console.out(formatTable([["STATUS", "MEANING"], ...statuses.map(({ status, means }) => [String(status), means])]));
  console.out("\n");
  const rows = faults.map(({ code, exit, retryable, means }) => [String(exit), code, retryable ? "yes" : "no", means]);
  console.out(formatTable([["STATUS", "FAULT", "MAY PASS BY ITSELF", "MEANING"], ...rows]));
  return 0;
}
