import { expect, test } from "vitest";
import { openSystemdService } from "../../src/service/systemd.ts";
import { serviceContract } from "../contracts/service.ts";
import { fakeHost } from "../fakes/host.ts";
import { fakeSystemd } from "../fakes/systemctl.ts";

const signal = new AbortController().signal;
const dropIn = "/etc/systemd/system/etcd.service.d/zzzz-etcd-lifeboat-hold.conf";

async function rig() {
  const host = fakeHost("cp1");
  await host.makeDirectory("/etc/systemd/system", { mode: 0o755 }, signal);
  const systemd = fakeSystemd(host, ["etcd.service"]);
  systemd.start("etcd.service");
  return { host, systemd, service: openSystemdService(host, { name: "etcd", role: "etcd", unit: "etcd.service" }) };
}

serviceContract("a unit of a systemd in memory", async () => {
  const { systemd, service } = await rig();
  return {
    service,
    reboot: async () => await Promise.resolve(systemd.reboot()),
    meddle: async () => {
      systemd.start("etcd.service");
      expect(systemd.units.get("etcd.service")?.refused).toBeGreaterThan(0);
      await Promise.resolve();
    },
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
});

test("a hold that was written and not loaded is none, and holding it again loads it", async () => {
  const { host, service } = await rig();
  await service.hold("01A", signal);
  const text = await host.readFile(dropIn, 1000, signal);
  await service.release(signal);
  expect(host.tree()).toEqual({
    "/etc": "(directory)",
    "/etc/systemd": "(directory)",
    "/etc/systemd/system": "(directory)",
  });
  await host.makeDirectory("/etc/systemd/system/etcd.service.d", { mode: 0o755 }, signal);
  await host.writeFile(dropIn, text!, { mode: 0o644 }, signal);
  expect((await service.state(signal)).heldBy).toBeUndefined();
  await service.hold("01A", signal);
  expect((await service.state(signal)).heldBy).toBe("01A");
});

test("a release that died before systemd was told is finished by the next one", async () => {
  const { host, service } = await rig();
  await service.hold("01A", signal);
  await host.removeFile(dropIn, signal);
  await service.release(signal);
  await service.stop(signal);
  await service.start(signal);
  expect((await service.state(signal)).running).toBe(true);
});

test("other drop-ins of the unit stay", async () => {
  const { host, service } = await rig();
  const other = "/etc/systemd/system/etcd.service.d/limits.conf";
  await host.makeDirectory("/etc/systemd/system/etcd.service.d", { mode: 0o755 }, signal);
  await host.writeFile(other, Buffer.from("[Service]\n"), { mode: 0o644 }, signal);
  await service.hold("01A", signal);
  await service.release(signal);
  expect(await host.list("/etc/systemd/system/etcd.service.d", signal)).toEqual(["limits.conf"]);
});

test("what is disabled stays so, and a unit that failed too often is started all the same", async () => {
  const { systemd, service } = await rig();
  const unit = systemd.units.get("etcd.service")!;
  unit.enabled = false;
  unit.limited = true;
  expect((await service.state(signal)).boots).toBe("no");
  await service.hold("01A", signal);
  await service.stop(signal);
  await service.release(signal);
  await service.start(signal);
  expect(await service.state(signal)).toMatchObject({ running: true, boots: "no" });
  expect(unit.enabled).toBe(false);
});

test("a unit file that was changed and not loaded is told", async () => {
  const { systemd, service } = await rig();
  systemd.units.get("etcd.service")!.needsReload = true;
  expect((await service.state(signal)).needsReload).toBe(true);
});

test("a unit that is not there is no stopped one", async () => {
  const { host } = await rig();
  const service = openSystemdService(host, { name: "etcd", role: "etcd", unit: "etdc.service" });
  await expect(service.state(signal)).rejects.toMatchObject({
    code: "service-unknown",
    message: "cp1 has no unit etdc.service",
  });
});

test("etcd joins by the environment file that its unit reads, and not where a flag would win over it", async () => {
  const { host, systemd } = await rig();
  const path = "/etc/default/etcd";
  const environment = { path, stateDirectory: "/var/lib/ours" };
  const { joining, ...service } = openSystemdService(host, {
    name: "etcd",
    role: "etcd",
    unit: "etcd.service",
    environment,
  });
  await host.makeDirectory("/etc/default", { mode: 0o755 }, signal);
  await host.writeFile(path, new TextEncoder().encode("ETCD_NAME=m2\n"), { mode: 0o644 }, signal);
  const unit = systemd.units.get("etcd.service")!;
  const why = { code: "service-unjoinable" };
  await expect(joining?.describe(signal)).rejects.toMatchObject({
    ...why,
    message: expect.stringContaining("does not read"),
  });
  unit.environmentFiles = `${path} (ignore_errors=no)`;
  unit.execStart = "{ path=/usr/bin/etcd ; argv[]=/usr/bin/etcd --initial-cluster-state=new ; }";
  await expect(joining?.prepare("01A", "m2=http://m2:2380", signal)).rejects.toMatchObject(why);
  // Other clusters' tokens are no members.
  unit.execStart = "{ path=/usr/bin/etcd ; argv[]=/usr/bin/etcd --initial-cluster-token=prod ; }";
  await service.hold("01A", signal);
  await service.stop(signal);
  await joining?.prepare("01A", "m2=http://m2:2380", signal);
  expect(host.tree()[path]).toContain('ETCD_INITIAL_CLUSTER_STATE="existing"');
  await expect(joining?.start("m2=http://m2:2380", signal)).rejects.toMatchObject({ code: "service-held" });
  await service.release(signal);
  await joining?.start("m2=http://m2:2380", signal);
  expect((await service.state(signal)).running).toBe(true);
  await joining?.finish("01A", signal);
  expect(host.tree()[path]).toBe("ETCD_NAME=m2\n");
});
