import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { hashKv, hashKvBumped } from "../bolt/hash-kv.ts";
import { inspectDatabase } from "../bolt/inspect.ts";
import { surveyKubernetes } from "../bolt/kubernetes.ts";
import { rewriteDatabase } from "../bolt/rewrite.ts";
import { scanSnapshot } from "../bolt/scan.ts";
import { Fault, abortFault, isFault, throwIfAborted, type FaultCode } from "../faults.ts";
import { proveLogin } from "./login.ts";
import type { Results, Task } from "./tasks.ts";

/**
 * This file is both ends of a worker thread, since the release is one bundled file: the thread is started from the very file this code is in, with
 * a mark that says what it is there for.
 */
const mark = { lifeboat: "worker" } as const;

/** Of the JavaScript heap; typed arrays are outside of it and bounded by the tasks themselves. */
const heapLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32 } as const;
/** A thread that sits in a read of a disk that hangs cannot be ended; nobody waits for it longer than this. */
const endAtMostMs = 2000;

type Answer =
  { readonly ok: true; readonly result: Results[keyof Results] } | { readonly ok: false; readonly fault: FaultRecord };

/** A Fault as it crosses the thread boundary. */
interface FaultRecord {
  readonly code: FaultCode;
  readonly message: string;
  readonly hint: string | undefined;
}

/**
 * Runs one task in a thread of its own, which is gone when this settles. Rejects with the task's Fault, with `worker-failed` when the thread ends
 * without an answer (out of memory, a bug), and with the signal's fault when that is aborted first.
 */
export async function runTask<T extends Task>(task: T, signal: AbortSignal): Promise<Results[T["kind"]]> {
  throwIfAborted(signal);
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { ...mark, task },
    // Not the flags of whoever runs us: a test runner's loaders have no business in here.
    execArgv: [],
    resourceLimits: heapLimits,
  });
  try {
    const answer = await firstAnswer(worker, signal);
    if (!answer.ok) throw new Fault(answer.fault.code, answer.fault.message, { hint: answer.fault.hint });
    // A worker has one task, and answers that one.
    return answer.result as Results[T["kind"]];
  } finally {
    await end(worker);
  }
}

function firstAnswer(worker: Worker, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(abortFault(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    const done = (): void => signal.removeEventListener("abort", onAbort);
    worker.once("message", (answer: Answer) => {
      done();
      resolve(answer);
    });
    worker.once("error", (error) => {
      done();
      const why = error instanceof Error ? error.message : String(error);
      reject(new Fault("worker-failed", `the worker thread ended: ${why}`, { cause: error }));
    });
    worker.once("exit", (status) => {
      done();
      reject(new Fault("worker-failed", `the worker thread ended with status ${status} and without an answer`));
    });
  });
}

async function end(worker: Worker): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, endAtMostMs);
  });
  worker.unref();
  await Promise.race([worker.terminate(), late]);
  clearTimeout(timer);
}

/** The thread's side: one task, one answer. What is no Fault is a bug: it ends the thread and is told by `worker-failed`. */
function serve(task: Task): void {
  let answer: Answer;
  try {
    answer = { ok: true, result: perform(task) };
  } catch (error) {
    if (!isFault(error)) throw error;
    answer = { ok: false, fault: { code: error.code, message: error.message, hint: error.hint } };
  }
  parentPort?.postMessage(answer);
}

function perform(task: Task): Results[Task["kind"]] {
  switch (task.kind) {
    case "scan-snapshot":
      return scanSnapshot(task.path, { probe: task.probe, expectSeal: task.expectSeal });
    case "hash-kv":
      return hashKv(task.path, task.revision, task.compactRevisions);
    case "hash-kv-bumped":
      return hashKvBumped(task.path, task.revision);
    case "inspect-database":
      return inspectDatabase(task.path);
    case "survey-kubernetes":
      return surveyKubernetes(task.path);
    case "rewrite-database":
      return rewriteDatabase(task.source, task.destination, task.changes);
    case "prove-login":
      return proveLogin(task.path, task.username, task.password);
  }
}

function taskOf(data: unknown): Task | undefined {
  if (
    typeof data !== "object" ||
    data === null ||
    !("lifeboat" in data) ||
    data.lifeboat !== mark.lifeboat ||
    !("task" in data)
  )
    return undefined;
  return data.task as Task;
}

if (!isMainThread) {
  const task = taskOf(workerData);
  if (task !== undefined) serve(task);
}
