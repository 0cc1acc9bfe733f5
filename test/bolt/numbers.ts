import { randomInt } from "node:crypto";

/** Numbers that look random and come again with the same seed: LIFEBOAT_SEED, or one that is printed. */
export function seededNumbers(what: string): { below(limit: number): number } {
  const seed = Number(process.env["LIFEBOAT_SEED"] ?? randomInt(2 ** 31));
  console.log(`${what}: LIFEBOAT_SEED=${seed}`);
  let state = seed >>> 0;
  const next = (): number => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (limit) => Math.floor(next() * limit) };
}
