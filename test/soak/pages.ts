import type { Line } from "./evidence.ts";

/** What a daemon's metrics say beside what its log and the repository say. */

export async function readPage(listen: string): Promise<string> {
  const answer = await fetch(new URL("/metrics", listen), { signal: AbortSignal.timeout(30_000) });
  return await answer.text();
}

/** Counters count what the log of the same process tells. */
export function checkCounters(page: string, own: readonly Line[], schedules: readonly string[]): readonly string[] {
  const wrong: string[] = [];
  const compare = (what: string, metric: number | undefined, counted: number): void => {
    if (metric !== counted) wrong.push(`${what} is ${metric}, and its log has ${counted}`);
  };
  const count = (event: string, schedule?: string): number =>
    own.filter((line) => line.event === event && (schedule === undefined || line.fields["schedule"] === schedule))
      .length;
  for (const schedule of schedules) {
    const label = `schedule="${schedule}"`;
    const results = { success: "backup.committed", failure: "backup.failed", superseded: "backup.superseded" };
    for (const [result, event] of Object.entries(results)) {
      const value = series(page, "lifeboat_backups_total", label, 'trigger="schedule"', `result="${result}"`);
      compare(`lifeboat_backups_total{${schedule},${result}}`, value, count(event, schedule));
    }
    const missed = own
      .filter((line) => line.event === "schedule.missed" && line.fields["schedule"] === schedule)
      .reduce((sum, { fields }) => sum + Number(fields["slots"]), 0);
    compare(
      `lifeboat_backup_missed_slots_total{${schedule}}`,
      series(page, "lifeboat_backup_missed_slots_total", label),
      missed,
    );
  }
  compare(
    "lifeboat_retention_expired_total",
    series(page, "lifeboat_retention_expired_total"),
    count("backup.expired"),
  );
  return wrong;
}

/** Every daemon knows the newest success of each schedule, whoever had it. */
export function freshness(page: string, all: readonly Line[], schedules: readonly string[]): readonly string[] {
  return schedules.flatMap((schedule) => {
    const commits = all.filter(({ event, fields }) => event === "backup.committed" && fields["schedule"] === schedule);
    const newestMs = Math.max(...commits.map(({ fields }) => Number(fields["committedMs"])));
    const value = series(page, "lifeboat_backup_last_success_timestamp_seconds", `schedule="${schedule}"`);
    if (value !== undefined && Math.abs(value * 1000 - newestMs) < 1) return [];
    const said = value === undefined ? "absent" : new Date(value * 1000).toISOString();
    return [`the last success of ${schedule} is ${said}, and it was ${new Date(newestMs).toISOString()}`];
  });
}

function series(page: string, name: string, ...labels: readonly string[]): number | undefined {
  const found = page
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .find((line) => labels.every((label) => line.includes(label)));
  const value = found?.split(" ").at(-1);
  return value === undefined ? undefined : Number(value);
}
