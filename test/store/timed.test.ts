import { expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { timed, type StoreRequest } from "../../src/store/timed.ts";
import { storeContract } from "../contracts/store.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore } from "../fakes/store.ts";

const signal = new AbortController().signal;

storeContract("a store whose requests are timed", async () => ({
  store: timed(memoryStore(), steeredClock(0), () => undefined),
  leftovers: async () => 0,
  partBytes: 1024,
  [Symbol.asyncDispose]: async () => undefined,
}));

function rig() {
  const [clock, inner, told]: [SteeredClock, ReturnType<typeof memoryStore>, StoreRequest[]] = [
    steeredClock(0),
    memoryStore(),
    [],
  ];
  return { clock, inner, told, store: timed(inner, clock, (request) => told.push(request)) };
}

test("every kind of request is told once it has ended, with what the store took", async () => {
  const { clock, inner, told, store } = rig();
  const slow = (method: "create" | "read" | "head" | "remove") =>
    inner.trouble({ method, delay: clock.sleep(250, signal) });
  for (const method of ["create", "read", "head", "remove"] as const) {
    slow(method);
    const asked =
      method === "create"
        ? store.create("a", Buffer.from("1"), signal)
        : method === "read"
          ? store.read("a", signal)
          : method === "head"
            ? store.head("a", signal)
            : store.remove("a", signal);
    await clock.advance(250);
    await asked;
    expect(told.at(-1)).toEqual({ operation: method, ok: true, durationMs: 250 });
  }
  await Array.fromAsync(store.list("", signal));
  expect(told.map(({ operation }) => operation)).toEqual(["create", "read", "head", "remove", "list"]);
});

test("who uploads slowly, or reads slowly what is listed and downloaded, is not the store's slowness", async () => {
  const { clock, told, store } = rig();
  async function* source(): AsyncGenerator<Uint8Array> {
    for (const part of ["a", "b", "c"]) {
      await clock.advance(1000);
      yield Buffer.from(part);
    }
  }
  await store.upload("one", source(), signal);
  await store.create("two", Buffer.from("2"), signal);
  for await (const part of store.download("one", signal)) if (part.length > 0) await clock.advance(5000);
  let names = 0;
  for await (const { name } of store.list("", signal)) {
    if (name !== "") names += 1;
    await clock.advance(5000);
  }
  expect(names).toBe(2);
  expect(told).toEqual([
    { operation: "upload", ok: true, durationMs: 0 },
    { operation: "create", ok: true, durationMs: 0 },
    { operation: "download", ok: true, durationMs: 0 },
    { operation: "list", ok: true, durationMs: 0 },
  ]);
});

test("a name that is taken or missing is an answer, a store that fails is not, and who gave up says nothing", async () => {
  const { inner, told, store } = rig();
  await store.create("taken", Buffer.from("1"), signal);
  await expect(store.create("taken", Buffer.from("2"), signal)).rejects.toThrow("taken");
  await expect(store.read("missing", signal)).rejects.toThrow("missing");
  await expect(Array.fromAsync(store.download("missing", signal))).rejects.toThrow("missing");
  expect(told.map(({ ok }) => ok)).toEqual([true, true, true, true]);

  told.length = 0;
  const gone = new Fault("store-unreachable", "no answer");
  const struck = (["read", "list", "upload"] as const).map((method) => inner.trouble({ method, fail: gone }));
  await expect(store.read("taken", signal)).rejects.toBe(gone);
  await expect(Array.fromAsync(store.list("", signal))).rejects.toBe(gone);
  await expect(store.upload("new", none(), signal)).rejects.toBe(gone);
  expect(struck.map((times) => times())).toEqual([1, 1, 1]);
  expect(told.map(({ operation, ok }) => [operation, ok])).toEqual([
    ["read", false],
    ["list", false],
    ["upload", false],
  ]);

  told.length = 0;
  await expect(store.head("taken", AbortSignal.abort())).rejects.toThrow("interrupted");
  await expect(Array.fromAsync(store.download("taken", AbortSignal.abort()))).rejects.toThrow("interrupted");
  expect(told).toEqual([]);
});

async function* none(): AsyncGenerator<Uint8Array> {
  yield* [];
}
