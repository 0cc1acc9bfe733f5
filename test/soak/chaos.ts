import { setTimeout as sleep } from "node:timers/promises";
import { mulberry32 } from "../bench/generate.ts";

/** What goes wrong, chosen by a seed: the same seed gives the same list of disturbances, with the same lengths, in the same order. */

/** Randomness of one run. Take all of it in the script itself, never in what runs beside it: an order that depends on timing is none. */
export interface Chance {
  readonly seed: number;
  /** From `least` up to, but not, `most`. */
  between(least: number, most: number): number;
  pick<T>(list: readonly T[]): T;
}

export function openChance(seed: number): Chance {
  const random = mulberry32(seed);
  const chance: Chance = {
    seed,
    between: (least, most) => least + random() * (most - least),
    pick(list) {
      const at = Math.floor(random() * list.length);
      const found = list[at];
      if (found === undefined) throw new Error("nothing to pick from");
      return found;
    },
  };
  return chance;
}

/** One thing that goes wrong and comes right again. */
export interface Disturbance {
  readonly name: string;
  /** How often it is chosen, compared with the others. */
  readonly weight: number;
  /** Draws what it needs of the chance, and gives what is to be done; that resolves when all is well again. Undefined: not possible now. */
  readonly draw: (chance: Chance) => (() => Promise<string>) | undefined;
}

export interface Disturbed {
  /** How often each fired. */
  readonly counts: ReadonlyMap<string, number>;
}

/** Disturbs, one after another with a pause between them that begins when all is calm again, as long as `going` says so. Every one is told as it ends. */
export async function disturb(
  chance: Chance,
  disturbances: readonly Disturbance[],
  {
    pauseMs,
    calm,
    going,
    say,
  }: {
    readonly pauseMs: readonly [number, number];
    /** Resolves when what is disturbed works again as it should: what never comes to rest shows only that nothing works without rest. */
    readonly calm: () => Promise<void>;
    readonly going: () => boolean;
    readonly say: (line: string) => void;
  },
): Promise<Disturbed> {
  const counts = new Map(disturbances.map(({ name }) => [name, 0]));
  const bag = disturbances.flatMap((disturbance) => Array.from({ length: disturbance.weight }, () => disturbance));
  while (going()) {
    await calm();
    await sleep(chance.between(...pauseMs));
    if (!going()) break;
    const { name, draw } = chance.pick(bag);
    const act = draw(chance);
    if (act === undefined) continue;
    const what = await act();
    counts.set(name, (counts.get(name) ?? 0) + 1);
    say(`disturbed: ${name}${what === "" ? "" : `: ${what}`}`);
  }
  return { counts };
}
