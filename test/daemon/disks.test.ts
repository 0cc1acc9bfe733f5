import { statfs } from "node:fs/promises";
import { expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { openDiskLook, readPressure, type DiskReaders, type WatchedDisk } from "../../src/daemon/disks.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";

const space = { freeBytes: 1, sizeBytes: 2, freeInodes: 3, inodes: 4 };

function opened(disks: readonly WatchedDisk[], read?: DiskReaders) {
  const events: LifeboatEvent[] = [];
  const emit = (event: LifeboatEvent): unknown => events.push(event);
  const forecast = (): undefined => undefined;
  const look = openDiskLook({ disks, clock: systemClock, emit, forecast, ...(read && { read }) });
  return { events, look };
}

test("a disk is told as statfs tells it", async () => {
  const { events, look } = opened([{ role: "data", member: "etcd1", directory: "/" }]);
  expect(await look(AbortSignal.timeout(60_000))).toEqual([]);
  const { blocks, bsize, files } = await statfs("/");
  expect(events[0]).toMatchObject({ role: "data", member: "etcd1", sizeBytes: blocks * bsize, inodes: files });
  expect(events[0]).toMatchObject({
    freeBytes: expect.any(Number) as number,
    freeInodes: expect.any(Number) as number,
  });
});

test("a directory that is not there is named, and the others are told", async () => {
  const nowhere = { role: "wal", member: "etcd1", directory: "/nowhere/at/all" } as const;
  const { events, look } = opened([nowhere, { role: "spool", member: undefined, directory: "/" }]);
  expect(await look(AbortSignal.timeout(60_000))).toEqual(["/nowhere/at/all cannot be looked at: ENOENT"]);
  expect(events.filter(({ name }) => name === "disk.observed").length).toBe(1);
});

test("a disk that hangs is given up, and not asked again before it has answered", async () => {
  let asked = 0;
  const { promise, resolve } = Promise.withResolvers<typeof space>();
  const read: DiskReaders = {
    space: (directory) => {
      if (directory !== "/hangs") return Promise.resolve(space);
      asked += 1;
      return promise;
    },
    pressure: () =>
      Promise.resolve("some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=2000\n"),
  };
  const { events, look } = opened(
    [
      { role: "data", member: "etcd1", directory: "/hangs" },
      { role: "spool", member: undefined, directory: "/spool" },
    ],
    read,
  );
  const stopped = new AbortController();
  const first = look(stopped.signal);
  const second = look(AbortSignal.timeout(600_000));
  stopped.abort(new Fault("interrupted", "stop"));
  await expect(first).rejects.toMatchObject({ code: "interrupted" });
  expect(await second).toEqual(["/hangs cannot be looked at: the disk of /hangs did not answer within 5 s"]);
  expect(asked).toBe(1);
  expect(events.filter((event) => event.name === "disk.observed").map(({ role }) => role)).toEqual(["spool"]);
  expect(events.at(-1)).toEqual({ name: "pressure.observed", waitingMs: 1500, stalledMs: 2 });
  resolve(space);
  await new Promise((done) => setImmediate(done));
  expect(await look(AbortSignal.timeout(60_000))).toEqual([]);
  expect(events.filter(({ name }) => name === "disk.observed").length).toBe(3);
}, 60_000);

test("pressure is unknown where the kernel says nothing, or something else", () => {
  expect(readPressure("")).toBe(undefined);
  expect(readPressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n")).toBe(undefined);
  expect(readPressure("some total=x\nfull total=y\n")).toBe(undefined);
});
