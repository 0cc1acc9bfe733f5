import { parse } from "yaml";

/** Rules of Prometheus whose time runs faster, so that what takes them an hour takes a minute. Nothing else about them changes. */

export interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly [field: string]: unknown;
}

export interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

/** The rules of a file with all their times divided: `for`, ranges, and the seconds that a query compares with or looks ahead. */
export function hurryRules(text: string, times: number): RuleFile {
  const { groups } = parse(text) as RuleFile;
  return {
    groups: groups.map(({ name, rules }) => ({
      name,
      rules: rules.map((rule) => ({
        ...rule,
        expr: hurryQuery(rule.expr, times),
        ...(rule.for === undefined ? {} : { for: hurryDuration(rule.for, times) }),
      })),
    })),
  };
}

/** `[10m]` at sixty times the speed is `[10s]`, and `> 600` is `> 10`: a whole number from ten minutes to ten days, by the minute, is taken for seconds. */
export function hurryQuery(query: string, times: number): string {
  return query
    .split(/("[^"]*")/)
    .map((part) =>
      part.startsWith('"')
        ? part
        : part
            .replaceAll(/(?<=\[|offset )[0-9a-z]+(?=\]|\b)/g, (duration) => hurryDuration(duration, times))
            .replaceAll(/(?<![\w.[])\d+(?![\w.\]])/g, (number) =>
              isSeconds(Number(number)) ? String(Number(number) / times) : number,
            ),
    )
    .join("");
}

function isSeconds(number: number): boolean {
  return number >= 600 && number <= 864_000 && number % 60 === 0;
}

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

function hurryDuration(duration: string, times: number): string {
  const parts = [...duration.matchAll(/(\d+)(ms|[smhdw])/g)];
  const ms = parts.reduce((sum, [, count = "", unit = ""]) => sum + Number(count) * (unitsMs[unit] ?? Number.NaN), 0);
  if (parts.map(([all]) => all).join("") !== duration || !(ms > 0)) throw new Error(`${duration} is no duration`);
  return `${Math.ceil(ms / times)}ms`;
}
