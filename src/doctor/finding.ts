import { isFault, type Fault, type FaultCode } from "../faults.ts";

/** One line of the doctor's table: what was examined, how it is, and what helps. */
export interface Finding {
  readonly area: "config" | "etcd" | "store" | "host";
  /** Which examination, stable: `certificate`, `rights`. */
  readonly check: string;
  /** `problem`: backups fail or cannot be trusted, with `code` as the reason; `unknown`: it could not be examined. */
  readonly severity: "ok" | "note" | "warning" | "unknown" | "problem";
  readonly message: string;
  /** What helps: a command, or what to do. Undefined where nothing is to be done. */
  readonly help: string | undefined;
  /** Of a problem alone: its exit status is the doctor's. */
  readonly code: FaultCode | undefined;
}

/** Makes the findings of one examination. */
export interface Report {
  readonly ok: (message: string) => Finding;
  readonly note: (message: string, help?: string) => Finding;
  readonly warning: (message: string, help: string) => Finding;
  readonly unknown: (message: string, help?: string) => Finding;
  readonly problem: (code: FaultCode, message: string, help: string) => Finding;
  /** What a fault says; the helpless one gets the given help. */
  readonly fault: (fault: Fault, help: string, before?: string) => Finding;
}

export function report(area: Finding["area"], check: string): Report {
  const make = (severity: Finding["severity"], message: string, help?: string, code?: FaultCode): Finding => ({
    area,
    check,
    severity,
    message,
    help,
    code,
  });
  return {
    ok: (message) => make("ok", message),
    note: (message, help) => make("note", message, help),
    warning: (message, help) => make("warning", message, help),
    unknown: (message, help) => make("unknown", message, help),
    problem: (code, message, help) => make("problem", message, help, code),
    fault: ({ code, message, hint }, help, before = "") => make("problem", `${before}${message}`, hint ?? help, code),
  };
}

/** Gives what went wrong as a finding; what is no fault, and the end itself, is thrown on. */
export async function examined(
  examine: () => Promise<readonly Finding[]>,
  otherwise: (fault: Fault) => Finding,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  try {
    return await examine();
  } catch (error) {
    if (!isFault(error) || signal.aborted) throw error;
    return [otherwise(error)];
  }
}
