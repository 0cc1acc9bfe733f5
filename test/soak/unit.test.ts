import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { readUnit } from "./unit.ts";

test("a soak's supervision has the bounds of the unit that is installed", async () => {
  const text = await readFile(new URL("../../systemd/etcd-lifeboat.service", import.meta.url), "utf8");
  expect(readUnit(text)).toEqual({
    restartMs: 15_000,
    watchdogMs: 120_000,
    stopMs: 60_000,
    preventStatuses: [78],
    startLimitMs: 600_000,
    startLimit: 10,
  });
  expect(() => readUnit(text.replace("Restart=on-failure", "Restart=always"))).toThrow("Restart=always");
  expect(() => readUnit(text.replace("WatchdogSec=2min", ""))).toThrow("no WatchdogSec=");
});
