import { setFlagsFromString } from "node:v8";

/**
 * Keeps V8's young generation as small as it starts. Snapshots arrive as thousands of short-lived buffers whose bytes lie outside of the heap; a young
 * generation that grows collects them late (measured on a 600 MB drain: 200 MB resident with V8's own growth, 137 MB without, no slower).
 * To be called before anything allocates much; V8 reads the flag whenever it would grow.
 */
export function keepYoungGenerationSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}
