import { minors } from "../cluster/servers.ts";
import type { Minor } from "../cluster/harness.ts";

/** One kind of cluster that a backup has to be proven against. */
export interface Combination {
  readonly minor: Minor;
  readonly members: 1 | 3 | 5;
  readonly tls: boolean;
  readonly auth: boolean;
}

const sizes = [1, 3, 5] as const;

/** Every minor with every size; certificates and users so that every two properties meet in every way (held by combinations.test.ts). */
export const combinations: readonly Combination[] = minors.flatMap((minor, i) =>
  sizes.map((members, j): Combination => {
    return { minor, members, tls: (i + j) % 2 === 0, auth: Math.floor((i + 2 * j) / 2) % 2 === 0 };
  }),
);

/** The short form: each minor once, each size, with and without certificates and users. */
export const shortCombinations: readonly Combination[] = [
  { minor: "3.3", members: 1, tls: true, auth: false },
  { minor: "3.4", members: 3, tls: false, auth: false },
  { minor: "3.5", members: 3, tls: true, auth: true },
  { minor: "3.6", members: 5, tls: true, auth: false },
  { minor: "3.7", members: 1, tls: false, auth: true },
];
