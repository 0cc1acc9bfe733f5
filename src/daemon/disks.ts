import { readFile, statfs } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import type { DiskRole, Emit } from "../events.ts";
import { abortFault, isFault } from "../faults.ts";
import type { Forecast } from "./forecast.ts";

/** A directory whose disk is watched. */
export interface WatchedDisk {
  readonly role: DiskRole;
  /** Whose it is; undefined: ours. */
  readonly member: string | undefined;
  readonly directory: string;
}

/** What statfs says, for writers without special rights. */
interface Space {
  readonly freeBytes: number;
  readonly sizeBytes: number;
  readonly freeInodes: number;
  /** 0 on file systems that do not count them. */
  readonly inodes: number;
}

export interface DisksDependencies {
  readonly disks: readonly WatchedDisk[];
  readonly clock: Clock;
  readonly emit: Emit;
  readonly forecast: Forecast;
  /** What the disks are read with; the real ones by default. */
  readonly read?: DiskReaders;
}

export interface DiskReaders {
  readonly space: (directory: string) => Promise<Space>;
  /** /proc/pressure/io as it is. */
  readonly pressure: () => Promise<string>;
}

/** A network file system whose server is gone holds statfs for ever. */
const timeoutMs = 5000;

const systemReaders: DiskReaders = {
  space: async (directory) => {
    const { bavail, bsize, blocks, ffree, files } = await statfs(directory);
    return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize, freeInodes: ffree, inodes: files };
  },
  pressure: () => readFile("/proc/pressure/io", "utf8"),
};

/**
 * Looks at the disks once at each call, all of them at the same time; each look is bounded, and one that hangs is not asked again before it has answered.
 * Returns what could not be seen. Emits `disk.observed` and, where the kernel counts it, `pressure.observed`.
 */
export function openDiskLook(deps: DisksDependencies): (signal: AbortSignal) => Promise<readonly string[]> {
  const { clock, emit, forecast, read = systemReaders } = deps;
  const hanging = new Map<string, Promise<Space>>();

  const measure = async (directory: string): Promise<Space> => {
    const asked = hanging.get(directory) ?? read.space(directory).finally(() => hanging.delete(directory));
    hanging.set(directory, asked);
    return asked;
  };
  const look = async ({ role, member, directory }: WatchedDisk, signal: AbortSignal): Promise<string | undefined> => {
    try {
      const space = await withinTime(measure(directory), `the disk of ${directory} did not answer`, signal);
      const used = { atMs: clock.now(), value: space.sizeBytes - space.freeBytes };
      const fullMs = forecast(`${role} ${directory}`, used, space.sizeBytes, false);
      emit({ name: "disk.observed", role, member, ...space, fullMs });
      return undefined;
    } catch (error) {
      if (signal.aborted) throw abortFault(signal);
      return `${directory} cannot be looked at: ${whyNot(error)}`;
    }
  };
  return async (signal) => {
    const troubles = await Promise.all(deps.disks.map((disk) => look(disk, signal)));
    const pressure = readPressure(await read.pressure().catch(() => ""));
    if (pressure !== undefined) emit({ name: "pressure.observed", ...pressure });
    return troubles.filter((trouble) => trouble !== undefined);
  };
}

async function withinTime<T>(work: Promise<T>, message: string, signal: AbortSignal): Promise<T> {
  using deadline = withDeadline(signal, timeoutMs, message);
  const { promise, reject } = Promise.withResolvers<never>();
  const late = (): void => reject(abortFault(deadline.signal));
  deadline.signal.addEventListener("abort", late, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    deadline.signal.removeEventListener("abort", late);
  }
}

function whyNot(error: unknown): string {
  if (isFault(error)) return error.message;
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error;
  return code;
}

/**
 * How long, since the machine started, some task waited for its disks, and all of them did (Linux, Documentation/accounting/psi.rst, in microseconds there).
 * Undefined where the kernel has none of it.
 */
export function readPressure(text: string): { waitingMs: number; stalledMs: number } | undefined {
  const total = (kind: string): number | undefined => {
    const found = new RegExp(`^${kind} .*\\btotal=(\\d{1,20})$`, "m").exec(text)?.[1];
    return found === undefined ? undefined : Number(found) / 1000;
  };
  const [waitingMs, stalledMs] = [total("some"), total("full")];
  return waitingMs === undefined || stalledMs === undefined ? undefined : { waitingMs, stalledMs };
}
