import { createTask } from "node-cron";
import { expect, test } from "vitest";
import { parseCron } from "../../src/config/cron.ts";

test("a cron expression becomes sorted lists without repetition", () => {
  expect(parseCron("30 0 22-2,23 * jan-mar mon-fri")).toStrictEqual({
    second: [30],
    minute: [0],
    hour: [0, 1, 2, 22, 23],
    dayOfMonth: Array.from({ length: 31 }, (_, index) => index + 1),
    month: [1, 2, 3],
    dayOfWeek: [1, 2, 3, 4, 5],
  });
});

test("five fields fire at second 0, and Sunday is 0 also when written as 7", () => {
  expect(parseCron("*/15 * * * 7")).toMatchObject({ second: [0], minute: [0, 15, 30, 45], dayOfWeek: [0] });
});

test("29 February is accepted and 31 of months that lack it are left out silently", () => {
  expect(parseCron("0 0 29 2 *")).toMatchObject({ dayOfMonth: [29], month: [2] });
  expect(parseCron("0 0 31 1,2 *")).toMatchObject({ dayOfMonth: [31], month: [1, 2] });
});

test.each(["0 0 30 2 *", "0 0 31 2,4 *", "0 0 31 4,6,9,11 *", "0 30 2 31 feb *"])(
  "%s is refused, since it never fires",
  (text) => {
    expect(() => parseCron(text)).toThrow("never fires");
  },
);

test("day-of-month together with day-of-week is refused with the reason", () => {
  expect(() => parseCron("0 3 1 * 0")).toThrow("restricts both day-of-month and day-of-week");
  expect(() => parseCron("0 3 1-31 * 0")).not.toThrow();
  expect(() => parseCron("0 3 1 * 0-6")).not.toThrow();
});

test.each([
  ["@daily", '"0 0 * * *"'],
  ["@Hourly", '"0 * * * *"'],
  ["@every 6h", '"0 */6 * * *"'],
  ["@reboot", "5 fields"],
])("%s is refused with what to write instead", (text, instead) => {
  expect(() => parseCron(text)).toThrow(instead);
});

test.each([
  "",
  "* * *",
  "60 * * * *",
  "x * * * *",
  "* * * * * * *",
  "0 0 L * *",
  "0 0 * * 5L",
  "0 0 15W * *",
  "0 0 * * mon#1",
])("%j is refused", (text) => {
  expect(() => parseCron(text)).toThrow(expect.objectContaining({ code: "config-invalid" }));
});

test("node-cron fires on the fields that were read", () => {
  const fields = parseCron("10 5,35 */6 * * 1-5");
  const task = createTask("10 5,35 */6 * * 1-5", () => undefined, { timezone: "UTC" });
  try {
    for (const date of task.getNextRuns(20)) {
      expect(fields.second).toContain(date.getUTCSeconds());
      expect(fields.minute).toContain(date.getUTCMinutes());
      expect(fields.hour).toContain(date.getUTCHours());
      expect(fields.dayOfWeek).toContain(date.getUTCDay());
    }
  } finally {
    void task.destroy();
  }
});
