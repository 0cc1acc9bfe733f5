import type { StepHandler } from "../runbook/runbook.ts";
import {
  firstBackup,
  healthyStep,
  lineageStep,
  lockStep,
  quietStep,
  refuseLateRollback,
  safetyBackup,
  unlockStep,
} from "./cluster-steps.ts";
import { buildStep, fetchStep, noted, placeStep, swapStep } from "./data-steps.ts";
import { revisionStep } from "./revision-step.ts";
import { startEtcd, startService, stopEtcd, stopService, textOf } from "./service-steps.ts";
import type { RestoreWork } from "./work.ts";

/** How each kind of step of a restore is checked, performed and undone. */
export function restoreSteps(work: RestoreWork): Readonly<Record<string, StepHandler>> {
  return {
    lock: lockStep(work),
    fetch: fetchStep(work),
    build: buildStep(work),
    "safety-backup": safetyBackup(work),
    place: placeStep(work),
    "stop-service": stopService(work),
    quiet: quietStep(work),
    "stop-etcd": stopEtcd(work),
    revision: revisionStep(work),
    lineage: lineageStep(work),
    swap: swapStep(work),
    "start-etcd": startEtcd(work),
    healthy: healthyStep(work),
    "start-service": startService(
      work,
      async (context, signal) => await refuseLateRollback(work, context, true, signal),
    ),
    "first-backup": firstBackup(work),
    unlock: unlockStep(work),
    hook: hookStep(work),
  };
}

function hookStep(work: RestoreWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(step, { note, results }, signal) {
      const phase = textOf(step, "hook");
      const { id, cluster, operation } = work.plan;
      const done = [...results.keys()];
      const warning = await work.deps.hook(phase, { operation, id, cluster, phase, done }, signal);
      if (warning !== undefined) work.deps.emit({ name: "warning", about: `hook ${phase}`, message: warning });
      await note({ warning: warning ?? null });
      return undefined;
    },
  };
}
