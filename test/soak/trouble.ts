import { mulberry32 } from "../bench/generate.ts";

/** What goes wrong in a soak and when, as a pure function of the seed: it is known before anything runs, and the same seed makes the same plan. */

/** One thing that goes wrong at `atMs` after the start and comes right `forMs` later; members and daemons are numbered from 0. */
export type Trouble = { readonly atMs: number; readonly forMs: number } & (
  | { readonly kind: "member-killed"; readonly members: readonly number[] }
  | { readonly kind: "member-paused"; readonly members: readonly number[] }
  | { readonly kind: "store-killed" }
  | { readonly kind: "store-paused" }
  | { readonly kind: "copy-killed" }
  | { readonly kind: "copy-paused" }
  /** As systemd sees a crash: it starts them again. */
  | { readonly kind: "daemon-killed"; readonly daemons: readonly number[] }
  | { readonly kind: "daemon-paused"; readonly daemons: readonly number[] }
  /** `systemctl stop`, and `systemctl start` when it comes right. */
  | { readonly kind: "daemon-stopped"; readonly daemons: readonly number[] }
  | { readonly kind: "daemon-reloaded"; readonly daemons: readonly number[] }
);

export interface TroubleOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly members: number;
  readonly daemons: number;
  /** A daemon that is paused for longer is ended by its watchdog. */
  readonly watchdogMs: number;
}

/** Lanes of trouble side by side, for members, for the store, for the copy's store and for the daemons; in each, one thing at a time. By when it begins. */
export function planTrouble(options: TroubleOptions): readonly Trouble[] {
  const { seed, durationMs } = options;
  const lanes = [memberTrouble, storeTrouble, sparingDaemonTrouble(), copyTrouble].map((next, lane) => {
    const random = mulberry32(seed * 4 + lane);
    const planned: Trouble[] = [];
    for (let atMs = between(random, 5000, 15_000); atMs < durationMs;) {
      const trouble = next(options, random, Math.round(atMs));
      // Everything comes right before the end.
      const fits = trouble.atMs + trouble.forMs <= durationMs;
      if (fits) planned.push(trouble);
      atMs = (fits ? trouble.atMs + trouble.forMs : atMs) + between(random, 8000, 25_000);
    }
    return planned;
  });
  // In the end all daemons crash: what they do first when nothing is wrong any more is to expire.
  const last: Trouble = { kind: "daemon-killed", daemons: counted(options.daemons), atMs: durationMs, forMs: 0 };
  return [...lanes.flat().toSorted((a, b) => a.atMs - b.atMs), last];
}

type Random = () => number;

function memberTrouble({ members }: TroubleOptions, random: Random, atMs: number): Trouble {
  const order = shuffled(members, random);
  const forMs = Math.round(between(random, 3000, 18_000));
  const kind = random();
  if (kind < 0.45) return { kind: "member-killed", members: order.slice(0, 1), atMs, forMs };
  if (kind < 0.8) return { kind: "member-paused", members: order.slice(0, 1), atMs, forMs };
  // Two of three: no quorum.
  return { kind: kind < 0.9 ? "member-killed" : "member-paused", members: order.slice(0, 2), atMs, forMs };
}

function storeTrouble(_: TroubleOptions, random: Random, atMs: number): Trouble {
  const forMs = Math.round(between(random, 2000, 20_000));
  // Most of the time it is well, or nothing would ever be stored.
  return { kind: random() < 0.5 ? "store-killed" : "store-paused", atMs: atMs + 20_000, forMs };
}

function copyTrouble(_: TroubleOptions, random: Random, atMs: number): Trouble {
  const forMs = Math.round(between(random, 5000, 40_000));
  return { kind: random() < 0.5 ? "copy-killed" : "copy-paused", atMs: atMs + 20_000, forMs };
}

/** systemd gives up a unit that it has to start ten times in ten minutes (StartLimitBurst=); that is not what is tried here. */
function sparingDaemonTrouble(): typeof daemonTrouble {
  const starts: { readonly daemon: number; readonly atMs: number }[] = [];
  return (options, random, atMs) => {
    const trouble = daemonTrouble(options, random, atMs);
    if (!("daemons" in trouble) || trouble.kind === "daemon-reloaded") return trouble;
    if (trouble.kind === "daemon-paused" && trouble.forMs < options.watchdogMs) return trouble;
    const lately = starts.filter((start) => atMs - start.atMs < startLimitMs);
    if (trouble.daemons.some((daemon) => lately.filter((start) => start.daemon === daemon).length >= startsAtMost))
      return { kind: "daemon-reloaded", daemons: trouble.daemons, atMs, forMs: 0 };
    starts.push(...trouble.daemons.map((daemon) => ({ daemon, atMs })));
    return trouble;
  };
}

/** More than the limit's ten minutes, since trouble may come later than it was planned, and bunch up. */
const startLimitMs = 720_000;
const startsAtMost = 6;

function daemonTrouble({ daemons, watchdogMs, durationMs }: TroubleOptions, random: Random, atMs: number): Trouble {
  const order = shuffled(daemons, random);
  const forMs = Math.round(between(random, 3000, 30_000));
  const kind = random();
  if (kind < 0.35) return { kind: "daemon-killed", daemons: order.slice(0, 1), atMs, forMs: 0 };
  if (kind < 0.45) return { kind: "daemon-killed", daemons: order, atMs, forMs: 0 };
  if (kind < 0.7) return { kind: "daemon-paused", daemons: order.slice(0, random() < 0.7 ? 1 : 2), atMs, forMs };
  // A short soak would see nothing else.
  if (kind < 0.75 && durationMs > 5 * watchdogMs)
    return { kind: "daemon-paused", daemons: order.slice(0, 1), atMs, forMs: watchdogMs + Math.round(forMs / 2) };
  if (kind < 0.85) return { kind: "daemon-stopped", daemons: order.slice(0, 1), atMs, forMs };
  if (kind < 0.92) return { kind: "daemon-stopped", daemons: order, atMs, forMs };
  return { kind: "daemon-reloaded", daemons: order.slice(0, 1), atMs, forMs: 0 };
}

function between(random: Random, least: number, most: number): number {
  return least + random() * (most - least);
}

function shuffled(count: number, random: Random): readonly number[] {
  return counted(count)
    .map((index) => ({ index, key: random() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ index }) => index);
}

function counted(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}
