import { afterEach, beforeEach, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, say, type Said } from "./console.ts";

let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(() => rig[Symbol.dispose]());

async function on(...argv: string[]): Promise<Said> {
  return await rig.passing(say(rig, ...argv, "--config", configOf(rig)));
}

test("the doctor's table has the worst first with what helps beside it, and its status is that of the first problem", async () => {
  const well = await on("doctor");
  expect(well.status, well.out).toBe(0);
  expect(well.out).toMatch(/^ +WHERE +WHAT +HELPS\n/);
  expect(well.out).toMatch(/\n0 problems, \d+ warnings, \d+ unknown, \d+ as they should be\n$/);
  expect(well.out).toMatch(/^warning +repository\.encryption +not set: backups are stored unencrypted/m);

  rig.etcd.script.alarms = [{ memberId: 1n, kind: "NOSPACE" }];
  const ill = await on("doctor");
  expect(ill.status).toBe(1);
  expect(ill.out.split("\n")[1]).toMatch(
    /^PROBLEM +etcd alarms +NOSPACE of etcd1.* {2}compact, .*etcdctl alarm disarm$/,
  );

  for (const { name } of rig.etcd.script.members) {
    rig.etcd.member(name).fail = { members: new Fault("etcd-auth", "no such user") };
  }
  expect((await on("doctor")).status).toBe(78);
});

test("in JSON it is one document, with a code for each problem", async () => {
  rig.etcd.script.alarms = [{ memberId: 1n, kind: "NOSPACE" }];
  const { status, out } = await on("doctor", "--json");
  expect(status).toBe(1);
  const document = JSON.parse(out) as { readonly schema: string; readonly findings: readonly object[] };
  expect(document).toMatchObject({ schema: "etcd-lifeboat/doctor/v1", cluster: "prod" });
  expect(document.findings[0]).toEqual({
    area: "etcd",
    check: "alarms",
    severity: "problem",
    message: "NOSPACE of etcd1: the cluster takes no writes",
    help: "compact, defragment each member, then: etcdctl alarm disarm",
    code: "etcd-refused",
  });
});

test("nothing is left in the store, and with --read-only nothing is written at all", async () => {
  await on("doctor");
  expect(rig.store.objects.size).toBe(0);
  const written = rig.store.calls.length;
  expect(written).toBeGreaterThan(0);
  const { out } = await on("doctor", "--read-only");
  expect(out).not.toContain("store access");
  expect(rig.store.calls).toHaveLength(written);
});
