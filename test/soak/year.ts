import { expressions, simulateYear, zones } from "../daemon/year.ts";

/**
 * A simulated year of each of 20 schedules in 5 zones, with restarts, nights without power, clocks that are set, and backups that fail and are tried again.
 * Run: npm run soak:year [-- SEED]
 */

const seed = Number(process.argv[2] ?? Date.now() % 1_000_000);
const fromMs = Date.UTC(2026, 0, 1, 0, 7);
const sums = { slots: 0, served: 0, missed: 0, restarts: 0, jumps: 0, failures: 0 };
const wrong: string[] = [];
console.log(`seed ${seed}: ${expressions.length} schedules, ${zones.length} zones, 366 days`);
for (const [index, zone] of zones.entries()) {
  const result = await simulateYear({ zone, seed: seed + index, fromMs, days: 366 });
  for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += result[key];
  wrong.push(...result.wrong);
  const { slots, served, missed, restarts, jumps, failures } = result;
  console.log(
    `${zone}: ${slots} slots, ${served} served, ${missed} served by a later one; ${restarts} restarts, ${jumps} clock jumps, ${failures} failed runs; ${result.wrong.length} wrong`,
  );
}
console.log(
  `in all: ${sums.slots} slots = ${sums.served} served + ${sums.missed} by a later one; ${sums.restarts} restarts, ${sums.jumps} jumps, ${sums.failures} failed runs`,
);
for (const sentence of wrong.slice(0, 50)) console.log(`WRONG ${sentence}`);
console.log(wrong.length === 0 ? "no slot lost, none doubled, none early" : `${wrong.length} wrong`);
process.exitCode = wrong.length === 0 ? 0 : 1;
