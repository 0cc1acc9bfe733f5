import { expect, test } from "vitest";
import { openHealth } from "../../src/daemon/health.ts";
import { steeredClock } from "../fakes/clock.ts";

const member = {
  member: "a",
  up: true,
  leader: true,
  learner: false,
  version: "3.6.16",
  revision: 1n,
  dbBytes: 1,
  dbInUseBytes: 1,
  quotaBytes: undefined,
  alarms: [],
} as const;

test("a loop that has not turned for a minute is not alive, and is again when it turns", async () => {
  const clock = steeredClock(0);
  const health = openHealth(clock);
  await clock.advance(59_000);
  expect(health.loop().ok).toBe(true);
  await clock.advance(2000);
  expect(health.loop()).toMatchObject({ ok: false, why: "the schedules have not been looked at for a minute" });
  health.turn();
  expect(health.loop().ok).toBe(true);
});

test("a backup that takes hours does not make the loop look hung", async () => {
  const clock = steeredClock(0);
  const health = openHealth(clock);
  let end = (): void => undefined;
  const working = health.during(() => new Promise<void>((resolve) => (end = resolve)));
  await clock.advance(7_200_000);
  expect(health.loop().ok).toBe(true);
  end();
  await working;
  expect(health.loop().ok).toBe(true);
});

test("readiness follows whether any member answers", () => {
  const health = openHealth(steeredClock(0));
  expect(health.etcd().ok).toBe(false);
  health.listen({ name: "cluster.observed", members: [member], quorum: true });
  expect(health.etcd().ok).toBe(true);
  health.listen({
    name: "cluster.observed",
    members: [{ member: "a", up: false, code: "etcd-unreachable", message: "refused" }],
    quorum: false,
  });
  expect(health.etcd()).toMatchObject({ ok: false, why: "no member answers" });
  health.listen({ name: "cluster.unobserved", code: "etcd-unreachable", message: "no endpoint answers" });
  expect(health.etcd()).toMatchObject({ ok: false, why: "no endpoint answers" });
});
