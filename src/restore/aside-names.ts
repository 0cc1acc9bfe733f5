/**
 * What an operation calls data that it moves out of the way. Always a name beside the one it had, so that a rename is enough, and one that tells the operation, so that
 * nothing that was moved is ever taken for something else.
 */

/** Old data that a restore has replaced, or that a member had which joined anew. */
export const replaced = "before-restore-";
/** New data that a member ran on before its restore was taken back. */
export const takenBack = "rolled-back-";
/** Any of the two, while a clean-up removes it. */
export const beingRemoved = "removing-";

/** ULID of the operation that gave data the name `before-restore-ID`; undefined for other names. */
export function operationIn(oldName: string): string | undefined {
  return oldName.startsWith(replaced) && !oldName.includes("/") ? oldName.slice(replaced.length) : undefined;
}

/** ULID of the operation that gave data at this path its name, whichever of the three; undefined for other names. */
export function operationOfAside(path: string): string | undefined {
  const named = [replaced, takenBack, beingRemoved].find((one) => path.slice(-one.length - 26, -26).endsWith(one));
  return named === undefined ? undefined : path.slice(-26);
}
