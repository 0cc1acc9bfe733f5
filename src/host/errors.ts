import { Fault, type FaultCode } from "../faults.ts";

const codes: Readonly<Record<string, FaultCode>> = {
  ENOENT: "host-missing",
  ENOTDIR: "host-missing",
  EEXIST: "host-exists",
  ENOTEMPTY: "host-exists",
  EXDEV: "host-cross-device",
  // A mount point cannot be renamed.
  EBUSY: "host-cross-device",
  ENOSPC: "host-space",
  EDQUOT: "host-space",
  EACCES: "host-denied",
  EPERM: "host-denied",
  EROFS: "host-denied",
};

/** Runs what touches files of this machine and translates the system's errors; `what` says what was tried, such as `write /etc/x`. */
export async function translated<T>(host: string, what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof Fault || typeof code !== "string" || !/^E[A-Z0-9]+$/.test(code)) throw error;
    throw new Fault(codes[code] ?? "host-failed", `${host} could not ${what}: ${code}`, { cause: error });
  }
}

/** True for one of these errors of the system. */
export function isErrno(error: unknown, ...expected: readonly string[]): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return error instanceof Error && typeof code === "string" && expected.includes(code);
}

/** Refuses a path that is not absolute, or that could be another one than it seems. */
export function checkPath(host: string, path: string): void {
  const plain = path.startsWith("/") && !path.includes("\0") && !path.split("/").includes("..");
  if (!plain)
    throw new Fault("host-failed", `${JSON.stringify(path)} is no path of ${host}: it must be absolute, without ..`);
}
