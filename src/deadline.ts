import { Fault, abortFault, type FaultCode } from "./faults.ts";

/**
 * A signal that is aborted with the outer one, or with a fault of its own after `ms`. `restart` puts the end off again (progress was made);
 * dispose it to release the timer.
 */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
  restart(): void;
}

/** `message` becomes the fault when the time is over; `code` defaults to `etcd-timeout`. */
export function withDeadline(
  outer: AbortSignal,
  ms: number,
  message: string,
  code: FaultCode = "etcd-timeout",
): Deadline {
  const controller = new AbortController();
  const onOuter = (): void => controller.abort(abortFault(outer));
  const timer = setTimeout(() => {
    controller.abort(new Fault(code, `${message} within ${ms / 1000} s`));
  }, ms);
  if (outer.aborted) onOuter();
  else outer.addEventListener("abort", onOuter, { once: true });
  return {
    signal: controller.signal,
    restart: () => {
      timer.refresh();
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
      outer.removeEventListener("abort", onOuter);
    },
  };
}

/** A signal that is aborted when the outer one has been for `graceMs`: for what is nearly done. Dispose it to release the timer. */
export function withGrace(outer: AbortSignal, graceMs: number): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onOuter = (): void => {
    timer = setTimeout(() => controller.abort(abortFault(outer)), graceMs);
  };
  if (outer.aborted) onOuter();
  else outer.addEventListener("abort", onOuter, { once: true });
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      outer.removeEventListener("abort", onOuter);
    },
  };
}
