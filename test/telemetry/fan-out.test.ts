import { afterEach, expect, test, vi } from "vitest";

import { fanOut } from "../../src/telemetry/fan-out.ts";
import { samples } from "./samples.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

test("every listener hears every event, in their order", () => {
  const heard: string[] = [];
  const emit = fanOut([(event) => heard.push(`a ${event.name}`), (event) => heard.push(`b ${event.name}`)]);
  emit(samples["daemon.ready"]);
  expect(heard).toEqual(["a daemon.ready", "b daemon.ready"]);
});

test("a listener that throws neither silences the others nor stops the feature, and its error still ends the process", () => {
  const later: (() => void)[] = [];
  vi.spyOn(process, "nextTick").mockImplementation((callback) => {
    later.push(() => void callback());
  });
  const heard: string[] = [];
  const emit = fanOut([
    () => {
      throw new Error("a bug in a listener");
    },
    (event) => heard.push(event.name),
  ]);
  emit(samples["daemon.ready"]);
  expect(heard).toEqual(["daemon.ready"]);
  expect(later).toHaveLength(1);
  expect(later[0]).toThrow("a bug in a listener");
});
