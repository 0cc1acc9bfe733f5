import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault, type FaultCode } from "../../src/faults.ts";
import type { Service, ServiceState } from "../../src/service/service.ts";
import { serviceContract } from "../contracts/service.ts";
import { root } from "../docs/pages.ts";
import { bootHost, type Host } from "./host.ts";

/** Services on a booted systemd, by the product's own code, which runs there. */

let host: Host;

beforeAll(async () => {
  host = await bootHost({
    "/usr/local/bin/node": await realpath(process.execPath),
    "/srv/checkout/src": join(root, "src"),
    "/srv/checkout/package.json": join(root, "package.json"),
  });
});

afterAll(async () => {
  await host?.[Symbol.asyncDispose]();
});

const call = `
import { openLocalHost } from "/srv/checkout/src/host/local.ts";
import { openSystemdService } from "/srv/checkout/src/service/systemd.ts";
const [unit, method, ...rest] = process.argv.slice(1);
const service = openSystemdService(openLocalHost("h1"), { name: "etcd", role: "etcd", unit });
const signal = AbortSignal.timeout(100000);
const answer = await service[method](...rest, signal).then(
  (value) => ({ value }),
  ({ code, message, hint }) => ({ code, message, hint }),
);
console.log(JSON.stringify(answer));
`;

/** A service of the booted host, each call by a process of its own. */
function remote(unit: string): Service {
  const ask = async (method: string, ...rest: readonly string[]): Promise<unknown> => {
    const words = [unit, method, ...rest].map((word) => `'${word}'`).join(" ");
    const said = await host.sh(`NODE_COMPILE_CACHE=/tmp/node node --input-type=module -e "$(cat)" ${words}`, call);
    const answer = JSON.parse(said) as { value?: unknown; code?: FaultCode; message: string; hint?: string };
    if (answer.code !== undefined) throw new Fault(answer.code, answer.message, { hint: answer.hint });
    return answer.value;
  };
  return {
    name: "etcd",
    role: "etcd",
    description: unit,
    canHold: true,
    holdStops: false,
    state: async () => {
      const state = (await ask("state")) as ServiceState;
      // JSON has no undefined.
      return { ...state, heldBy: state.heldBy };
    },
    hold: async (operation) => void (await ask("hold", operation)),
    stop: async () => void (await ask("stop")),
    release: async () => void (await ask("release")),
    start: async () => void (await ask("start")),
  };
}

async function install(unit: string, lines: string, enabled = true): Promise<void> {
  const text = `[Unit]\nStartLimitIntervalSec=0\n[Service]\n${lines}\n[Install]\nWantedBy=multi-user.target\n`;
  await host.write(`/etc/systemd/system/${unit}`, text);
  await host.sh(`systemctl daemon-reload; systemctl -q ${enabled ? "enable" : "disable"} ${unit}`);
}

const forever = "Type=exec\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=100ms";

/** Everything of the unit is killed, then whatever a boot starts is started. */
async function reboot(unit: string): Promise<void> {
  await host.sh(`systemctl stop ${unit}; systemctl daemon-reexec; systemctl start multi-user.target`);
}

serviceContract("a unit of a booted systemd whose Restart= is always", async () => {
  const unit = "etcd.service";
  await install(unit, forever);
  await host.sh(`systemctl start ${unit}`);
  return {
    service: remote(unit),
    reboot: async () => await reboot(unit),
    meddle: async () => {
      for (const how of ["start", "restart", "reload-or-restart"]) {
        const { status, stderr } = await host.run(`systemctl ${how} ${unit}`);
        expect(status, stderr).not.toBe(0);
      }
      // It says whose it is.
      expect((await host.run(`systemctl status ${unit}`)).stdout).toContain(
        "held-by-etcd-lifeboat-operation/01JD0000000000000000000001",
      );
    },
    [Symbol.asyncDispose]: async () => void (await host.run(`systemctl stop ${unit}`)),
  };
});

describe("a unit that is held", () => {
  test("does not come back when it is killed while it runs, though its Restart= is always", async () => {
    const unit = "killed.service";
    await install(unit, forever);
    await host.sh(`systemctl start ${unit}`);
    const service = remote(unit);
    const signal = new AbortController().signal;
    await service.hold("01A", signal);
    const [pid] = (await service.state(signal)).pids;
    await host.sh(`kill -KILL ${pid}`);
    await expect.poll(async () => (await service.state(signal)).running).toBe(false);
    await service.release(signal);
    await service.start(signal);
    await expect.poll(async () => (await service.state(signal)).running).toBe(true);
    await host.sh(`systemctl stop ${unit}`);
  });

  test("is no more than it was: a disabled one stays disabled, and its drop-ins are gone", async () => {
    const unit = "disabled.service";
    await install(unit, forever, false);
    const service = remote(unit);
    const signal = new AbortController().signal;
    await service.hold("01A", signal);
    await service.release(signal);
    expect(await service.state(signal)).toMatchObject({ running: false, boots: "no", needsReload: false });
    expect((await host.run(`ls -d /etc/systemd/system/${unit}.d`)).status).not.toBe(0);
  });
});

test("a unit that failed too often within a short time is started all the same", async () => {
  const unit = "limited.service";
  const lines =
    "Type=exec\nExecStart=/bin/sh -c 'test -e /run/good && exec sleep infinity'\nRestart=on-failure\nRestartSec=10ms";
  await host.write(
    `/etc/systemd/system/${unit}`,
    `[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n[Service]\n${lines}\n`,
  );
  const service = remote(unit);
  const signal = new AbortController().signal;
  await host.run(`systemctl daemon-reload; systemctl start ${unit}`);
  await expect.poll(async () => await host.sh(`systemctl show -p ActiveState --value ${unit}`)).toBe("failed");
  await host.sh("touch /run/good");
  expect((await host.run(`systemctl start ${unit}`)).status, "the limit is in force").not.toBe(0);
  await service.start(signal);
  await expect.poll(async () => (await service.state(signal)).running).toBe(true);
  expect(await service.state(signal)).toMatchObject({ boots: "unknown" });
  await host.sh(`systemctl stop ${unit}`);
});
