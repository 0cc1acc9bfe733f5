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
    const mapped = codes[code] ?? "host-failed";
    if (mapped !== "host-space") throw new Fault(mapped, `${host} could not ${what}: ${code}`, { cause: error });
    throw new Fault(mapped, `${host} has no room to ${what}: ${code}`, {
      hint: "make room on that disk: df -h says what is used of it, and df -i how many files it can still take",
      cause: error,
    });
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
