import type { ObservedMember } from "../events.ts";
import { escapeControls, formatAge, formatBytes, formatDuration, formatTime } from "../format.ts";
import { redact } from "./redact.ts";
import type { ScheduleStatus, Status } from "./status.ts";

/** The status as one HTML page: no script, nothing loaded from anywhere, light and dark as the reader's system says. */
export function statusPage(status: Status, nowMs: number): string {
  return page(`etcd-lifeboat ${status.cluster}`, [
    markup`<h1>${status.cluster}</h1>`,
    markup`<p>${summary(status)}</p>`,
    ...notices(status).map((notice) => markup`<p>${bad(notice)}</p>`),
    table(
      "Schedules",
      ["schedule", "last success", "last proven", "size", "next run", "every", "last run"],
      scheduleRows(status, nowMs),
    ),
    table(
      "Copies",
      ["copy", "backups", "not there", "newest there", "last round"],
      status.copies.map(({ name, backups, missing, newestMs, lastFailure }) => [
        name,
        backups === undefined ? "not looked yet" : String(backups),
        missing === undefined ? "" : String(missing),
        newestMs === undefined ? "none known" : when(newestMs, nowMs),
        lastFailure === undefined ? "" : bad(`failed: ${lastFailure}`),
      ]),
    ),
    table(
      "Members",
      ["member", "state", "role", "version", "revision", "database", "alarms"],
      status.members.map((member) => memberRow(member, status.diverged.includes(member.member))),
    ),
    table(
      "Disks",
      ["disk", "free", "full"],
      status.disks.map(({ role, member, freeBytes, sizeBytes, fullMs }) => [
        member === undefined ? role : `${role} of ${member}`,
        `${formatBytes(freeBytes)} of ${formatBytes(sizeBytes)}`,
        when(fullMs, nowMs),
      ]),
    ),
    table(
      "Trouble",
      ["when", "about", "what"],
      status.troubles.map((trouble) => [when(trouble.atMs, nowMs), trouble.about, trouble.message]),
    ),
    markup`<footer>etcd-lifeboat ${status.version}, ${formatTime(nowMs)}; <a href="/metrics">metrics</a></footer>`,
  ]);
}

function summary({ quorum, store, running }: Status): string {
  const etcd = quorum === undefined ? "etcd: not reached" : quorum ? "etcd: has quorum" : "etcd: no quorum";
  const backups = store?.backups === undefined ? "" : `, ${store.backups} backups`;
  const repository =
    store === undefined ? "store: not looked yet" : store.up ? `store: reachable${backups}` : "store: down";
  const work = running.length === 0 ? "no backup running" : `backup running (${running.length})`;
  return [etcd, repository, work].join(" · ");
}

/** What holds until somebody does something. */
function notices({ held, refused, diverged }: Status): readonly string[] {
  return [
    ...(held === undefined ? [] : [held]),
    ...(refused === undefined ? [] : [`reload refused, the configuration before it stays in force: ${refused}`]),
    ...diverged.map((member) => `${member} holds other data than the majority: replace it`),
  ];
}

function scheduleRows(status: Status, nowMs: number): readonly Cell[][] {
  return status.schedules.map((schedule) => [
    schedule.name,
    lastSuccess(schedule, nowMs),
    lastProven(schedule, nowMs),
    schedule.storedBytes === undefined ? "" : formatBytes(schedule.storedBytes),
    when(schedule.nextRunMs, nowMs),
    schedule.intervalMs === undefined ? "" : formatDuration(schedule.intervalMs),
    schedule.lastFailure === undefined ? "" : bad(`failed: ${schedule.lastFailure}`),
  ]);
}

/** Overdue: no success for two intervals plus ten minutes. */
function lastSuccess({ lastSuccessMs, intervalMs }: ScheduleStatus, nowMs: number): Cell {
  if (lastSuccessMs === undefined) return bad("none known");
  const overdue = intervalMs !== undefined && nowMs - lastSuccessMs > 2 * intervalMs + 600_000;
  return overdue ? bad(`${when(lastSuccessMs, nowMs)}, overdue`) : when(lastSuccessMs, nowMs);
}

function lastProven({ lastProvenMs, unproven }: ScheduleStatus, nowMs: number): Cell {
  const proven = lastProvenMs === undefined ? "none known" : when(lastProvenMs, nowMs);
  return unproven === undefined ? proven : bad(`${proven}; the newest is only sealed: ${unproven}`);
}

function memberRow(member: ObservedMember, diverged: boolean): Cell[] {
  if (!member.up) return [member.member, bad(`down: ${redact(member.message)}`), "", "", "", "", ""];
  const role = member.leader ? "leader" : member.learner ? "learner" : "follower";
  const of = member.quotaBytes === undefined ? "" : ` of ${formatBytes(member.quotaBytes)}`;
  const alarms = member.alarms.length === 0 ? "" : bad(member.alarms.join(", "));
  return [
    member.member,
    diverged ? bad("up, diverged") : "up",
    role,
    member.version,
    `${member.revision}`,
    `${formatBytes(member.dbBytes)}${of}`,
    alarms,
  ];
}

function when(ms: number | undefined, nowMs: number): string {
  return ms === undefined ? "" : `${formatTime(ms)} (${formatAge(ms, nowMs)})`;
}

/** HTML that is safe as it is; anything else is text. */
class Markup {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}
type Cell = string | Markup;

/** Whatever is put into the template is escaped, unless it is markup already: the only way from text to page. */
function markup(parts: TemplateStringsArray, ...values: readonly (Cell | readonly Markup[])[]): Markup {
  const inserted = values.map((value) =>
    typeof value === "string"
      ? escapeHtml(value)
      : value instanceof Markup
        ? value.source
        : value.map((m) => m.source).join(""),
  );
  return new Markup(String.raw({ raw: parts }, ...inserted));
}

function escapeHtml(text: string): string {
  return escapeControls(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function bad(text: string): Markup {
  return markup`<strong>${text}</strong>`;
}

function table(title: string, heads: readonly string[], rows: readonly (readonly Cell[])[]): Markup {
  if (rows.length === 0) return markup``;
  const head = heads.map((name) => markup`<th scope="col">${name}</th>`);
  const body = rows.map((row) => markup`<tr>${row.map((cell) => markup`<td>${cell}</td>`)}</tr>\n`);
  return markup`<h2>${title}</h2>\n<div><table><thead><tr>${head}</tr></thead>\n<tbody>\n${body}</tbody></table></div>`;
}

const style = `:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 1.5rem 0 .3rem }
div { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top; overflow-wrap: anywhere }
th { font-weight: 600; white-space: nowrap } strong { color: light-dark(#b00020, #ff8a80) }
footer { margin-top: 2rem; opacity: .7 }`;

function page(title: string, content: readonly Markup[]): string {
  const body = content.map((part) => part.source).join("\n");
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
${style}
</style></head>
<body>
${body}
</body>
</html>
`;
}
