import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Service } from "../../src/service/service.ts";

/** What the suite is run on: a service that runs and that a reboot would start. */
export interface OpenedService extends AsyncDisposable {
  readonly service: Service;
  /** What a reboot does to it, as far as that can be had: everything is killed, and what starts by itself is started. */
  readonly reboot: () => Promise<void>;
  /** Somebody else tries to start it, in any way that there is. */
  readonly meddle: () => Promise<void>;
  /** Who runs now, where the service tells only whether somebody does; by default its processes. */
  readonly runsAs?: () => Promise<string>;
}

const signal = new AbortController().signal;
const operation = "01JD0000000000000000000001";

/** The promises of `Service`, kept by every way to run one. The tests go on from one another. */
export function serviceContract(name: string, open: () => Promise<OpenedService>): void {
  describe(`${name} keeps the service contract`, () => {
    let opened: OpenedService;
    let service: Service;
    beforeAll(async () => {
      opened = await open();
      ({ service } = opened);
    });
    afterAll(async () => {
      await opened?.[Symbol.asyncDispose]();
    });
    const state = async () => await service.state(signal);
    const runsAs = async (): Promise<string> => (await opened.runsAs?.()) ?? (await state()).pids.join();
    const free = () => ({ heldBy: undefined, boots: "yes", needsReload: false });
    const runs = async (): Promise<boolean> => (await state()).running;
    const takeDown = async (): Promise<void> => {
      await service.hold(operation, signal);
      if (!service.holdStops) await service.stop(signal);
      await expect.poll(runs).toBe(false);
    };
    const bringUp = async (): Promise<void> => {
      await service.release(signal);
      await service.start(signal);
      await expect.poll(runs).toBe(true);
    };

    test("it runs, and a reboot starts it", async () => {
      await expect.poll(runs).toBe(true);
      expect(await state()).toMatchObject(free());
      const before = await runsAs();
      expect(before).not.toBe("");
      await opened.reboot();
      await expect.poll(runs).toBe(true);
      expect(await runsAs()).not.toBe(before);
    });

    test("where a hold does not stop it, it goes on", async () => {
      if (service.holdStops) return;
      const before = await runsAs();
      await service.hold(operation, signal);
      expect(await state()).toMatchObject({ running: true, heldBy: operation, boots: "no" });
      await service.release(signal);
      expect(await state()).toMatchObject({ running: true, ...free() });
      expect(await runsAs()).toBe(before);
    });

    test("held and stopped it stays down: over a reboot, and whoever tries", async () => {
      await takeDown();
      expect(await state()).toMatchObject({ running: false, pids: [], heldBy: operation, boots: "no" });
      await opened.meddle();
      expect(await state()).toMatchObject({ running: false, heldBy: operation });
      await opened.reboot();
      expect(await state()).toMatchObject({ running: false, heldBy: operation, boots: "no" });
      await expect(service.start(signal)).rejects.toMatchObject({ code: "service-held" });
      expect(await runs()).toBe(false);
    });

    test("the same operation holds it again, another one is refused", async () => {
      await service.hold(operation, signal);
      await expect(service.hold("01JD0000000000000000000002", signal)).rejects.toMatchObject({ code: "service-held" });
      expect(await state()).toMatchObject({ heldBy: operation });
    });

    test("stopping what does not run is no failure", async () => {
      await service.stop(signal);
      expect(await runs()).toBe(false);
    });

    test("released and started it is as it was, and a second release changes nothing", async () => {
      await bringUp();
      expect(await state()).toMatchObject(free());
      await service.release(signal);
      await service.start(signal);
      expect(await state()).toMatchObject({ running: true, ...free() });
      await opened.reboot();
      await expect.poll(runs).toBe(true);
    });
  });
}
