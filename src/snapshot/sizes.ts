import { Fault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import { ageOverheadBytes } from "./age.ts";
import { sealBytes } from "./seal.ts";
import { maximumFrameBytes } from "./zstd.ts";

/**
 * Refuses with `manifest-invalid` a manifest whose sizes contradict each other: before a byte is read, they bound what its objects may decode to.
 */
export function checkSizes({ backup, content, data, extras }: Manifest): void {
  const recipients = data.encryption === null ? undefined : data.encryption.recipients.length;
  const plainBytes = content.dbBytes + sealBytes;
  if (data.plainBytes !== plainBytes) {
    throw contradiction(backup, `the data is ${data.plainBytes} bytes, and the database with its seal ${plainBytes}`);
  }
  checkObject(backup, { ...data, frames: data.compression.frames }, recipients);
  if (extras === null) return;
  if (extras.plainBytes > maximumFrameBytes) {
    throw contradiction(backup, `extras of ${extras.plainBytes} bytes are not allowed (at most ${maximumFrameBytes})`);
  }
  checkObject(backup, extras, recipients);
}

function checkObject(
  backup: string,
  object: {
    readonly object: string;
    readonly plainBytes: number;
    readonly storedBytes: number;
    readonly frames: readonly (readonly [number, number])[];
  },
  recipients: number | undefined,
): void {
  let plainBytes = 0;
  let compressedBytes = 0;
  for (const [plain, compressed] of object.frames) {
    plainBytes += plain;
    compressedBytes += compressed;
  }
  if (plainBytes !== object.plainBytes) {
    throw contradiction(
      backup,
      `the frames of ${object.object} add up to ${plainBytes} bytes instead of ${object.plainBytes}`,
    );
  }
  const storedBytes = compressedBytes + (recipients === undefined ? 0 : ageOverheadBytes(compressedBytes, recipients));
  if (storedBytes !== object.storedBytes) {
    throw contradiction(
      backup,
      `the stored frames of ${object.object} add up to ${storedBytes} bytes instead of ${object.storedBytes}`,
    );
  }
}

function contradiction(backup: string, what: string): Fault {
  return new Fault("manifest-invalid", `the manifest of ${backup} contradicts itself: ${what}`, {
    hint: "it was altered or damaged: restore from another backup",
  });
}
