import { expect, test } from "vitest";

import { statusPage } from "../../src/telemetry/status-page.ts";
import { openStatus } from "../../src/telemetry/status.ts";
import { samples, upMember } from "./samples.ts";

const nowMs = Date.UTC(2026, 2, 1, 6, 30);

function open() {
  return openStatus({
    cluster: "prod",
    version: "0.1.0",
    schedules: ["hourly", "daily"],
    copies: ["offsite"],
    now: () => nowMs,
  });
}

test("the page shows the cluster, each schedule's last success and next run, members and trouble", async () => {
  const { listen, read } = open();
  for (const event of [
    samples["schedule.read"],
    { ...samples["schedule.planned"], nextRunMs: Date.UTC(2026, 2, 1, 7) },
    samples["cluster.observed"],
    samples["store.observed"],
    samples["copy.compared"],
    samples["disk.observed"],
    { ...samples["disk.observed"], role: "spool" as const, member: undefined, fullMs: undefined },
    samples["backup.started"],
    samples["backup.committed"],
    { ...samples["backup.started"], run: "2", schedule: "daily" },
    { ...samples["backup.failed"], run: "2", schedule: "daily" },
  ]) {
    listen(event);
  }
  await expect(statusPage(read(), nowMs)).toMatchFileSnapshot("golden/status.html.txt");
});

test("before anything is known the page says so", () => {
  const page = statusPage(open().read(), nowMs);
  expect(page).toContain("etcd: not reached · store: not looked yet · no backup running");
  expect(page).toContain("none known");
});

test("a reload that was refused stays on the page until one is accepted, which brings its schedules", () => {
  const { listen, read } = open();
  listen(samples["schedule.read"]);
  listen(samples["config.refused"]);
  expect(statusPage(read(), nowMs)).toContain("reload refused, the configuration before it stays in force: /etc/");
  listen(samples["config.accepted"]);
  listen({ ...samples["config.applied"], schedules: ["hourly", "weekly"] });
  expect(statusPage(read(), nowMs)).not.toContain("reload refused");
  expect(read().schedules.map(({ name, lastSuccessMs }) => [name, lastSuccessMs !== undefined])).toEqual([
    ["hourly", true],
    ["weekly", false],
  ]);
});

test("a pause, a lock and why a backup is not taken are on the page until they are over", () => {
  const { listen, read } = open();
  listen({ ...samples["lock.observed"], holder: "restore", holderBy: "root on cp2 (process 7)", holderAlive: false });
  listen(samples["schedule.held"]);
  const page = statusPage(read(), nowMs);
  expect(page).toContain(
    "paused since 2026-03-01T05:12:00Z by root on cp1 (process 4711): disks are replaced; " +
      "the lock is held by restore (root on cp2 (process 7)), which seems to be dead",
  );
  expect(page).toContain("no backup now: the repository is paused since");
  const free = { ...samples["lock.observed"], paused: false, holder: undefined };
  listen({ ...free, damaged: 1 });
  expect(statusPage(read(), nowMs)).toContain("unreadable entries of the lock: 1");
  listen(free);
  expect(read().held).toBeUndefined();
});

test("the newest proven backup is shown, why the newest is only sealed, and which member differs", () => {
  const { listen, read } = open();
  listen(samples["cluster.observed"]);
  listen(samples["backup.proven"]);
  expect(read().schedules[0]).toMatchObject({
    lastProvenMs: samples["backup.proven"].committedMs,
    unproven: undefined,
  });
  listen(samples["backup.sealed"]);
  expect(statusPage(read(), nowMs)).toContain("the newest is only sealed: too few voters answer");
  listen({ ...samples["member.diverged"], member: "etcd1" });
  const page = statusPage(read(), nowMs);
  expect(page).toContain("etcd1 holds other data than the majority: replace it");
  expect(page).toContain("up, diverged");
  // One that is proven late says nothing about the newest.
  listen({ ...samples["backup.proven"], agreeing: [], committedMs: samples["backup.proven"].committedMs - 1 });
  expect(read().schedules[0]?.unproven).toBeDefined();
  listen(samples["backup.proven"]);
  expect(read()).toMatchObject({ diverged: [], schedules: [{ unproven: undefined }, {}] });
});

test("a schedule is overdue after two intervals and ten minutes", () => {
  const { listen, read } = open();
  listen({ ...samples["schedule.read"], lastSuccessMs: nowMs - 2 * 3_600_000 - 600_000 });
  listen(samples["schedule.planned"]);
  expect(statusPage(read(), nowMs)).not.toContain("overdue");
  expect(statusPage(read(), nowMs + 1)).toContain("overdue");
});

test("a failed run is running no more, and a later success clears the failure", () => {
  const { listen, read } = open();
  listen(samples["backup.started"]);
  expect(read().running).toHaveLength(1);
  listen(samples["backup.failed"]);
  expect(read().running).toEqual([]);
  expect(read().schedules[0]?.lastFailure).toBe("no connection to s3.example.org");
  listen(samples["backup.committed"]);
  expect(read().schedules[0]?.lastFailure).toBeUndefined();
});

test("members of a cluster that nobody reaches are down, and quorum is not known", () => {
  const { listen, read } = open();
  listen({ name: "cluster.observed", members: [upMember], quorum: true });
  listen(samples["cluster.unobserved"]);
  expect(read()).toMatchObject({ quorum: undefined, members: [{ member: "etcd1", up: false }] });
});

test("nothing that a server or a person wrote becomes markup", () => {
  const evil = `<script>alert("x")</script>'&\u001b[2J\u202e`;
  const { listen, read } = openStatus({
    cluster: evil,
    version: evil,
    schedules: [evil],
    copies: [evil],
    now: () => nowMs,
  });
  listen({ name: "warning", about: evil, message: evil });
  listen({ ...samples["backup.failed"], schedule: evil, message: evil });
  listen({ ...samples["copy.failed"], store: evil, message: evil });
  listen({ ...samples["disk.observed"], role: "data", member: evil });
  listen({
    name: "cluster.observed",
    quorum: false,
    members: [
      { ...upMember, member: evil, version: evil, alarms: [evil] },
      { member: evil, up: false, code: "etcd-tls", message: evil },
    ],
  });
  const page = statusPage(read(), nowMs);
  expect(page.match(/alert/g)?.length).toBeGreaterThan(8);
  expect(page).not.toMatch(/<script|alert\("|'&|\u202e/i);
  expect(page).not.toContain("\u001b");
});

test("the page loads nothing and runs nothing", () => {
  const page = statusPage(open().read(), nowMs);
  expect(page).not.toMatch(/<script|<img|<link|@import|url\(|https?:/);
});

test("trouble without end is kept bounded, and what repeats itself once", () => {
  const { listen, read } = open();
  for (let count = 0; count < 1000; count += 1) {
    listen({ name: "warning", about: "x", message: `m${count}` });
    listen({ name: "warning", about: "x", message: "again" });
    listen({ ...samples["backup.started"], run: `${count}` });
  }
  expect(read().troubles).toHaveLength(10);
  expect(read().troubles.filter(({ message }) => message === "again")).toHaveLength(1);
  expect(read().running).toHaveLength(32);
});

test("a copy is shown with what it has, what failed, and that it went well again; one that a reload took away is gone", () => {
  const { listen, read } = open();
  expect(statusPage(read(), nowMs)).toContain("not looked yet");
  listen({ ...samples["copy.compared"], backups: 3, missing: 2 });
  listen(samples["copy.failed"]);
  expect(statusPage(read(), nowMs)).toContain(`failed: ${samples["copy.failed"].message}`);
  listen(samples["copy.stored"]);
  expect(read().copies[0]).toMatchObject({ backups: 4, missing: 1, newestMs: expect.any(Number) as number });
  listen({ ...samples["copy.finished"], missing: 0 });
  listen({ ...samples["copy.expired"], expired: 3 });
  expect(read().copies).toEqual([expect.objectContaining({ backups: 1, missing: 0, lastFailure: undefined })]);
  listen({ ...samples["config.applied"], copies: ["cloud"] });
  expect(read().copies.map(({ name, backups }) => [name, backups])).toEqual([["cloud", undefined]]);
});
