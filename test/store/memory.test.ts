import { expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { storeContract } from "../contracts/store.ts";
import { memoryStore } from "../fakes/store.ts";

storeContract("the memory store", async () => {
  const none = async (): Promise<void> => undefined;
  return { store: memoryStore(), leftovers: async () => 0, partBytes: 1024, [Symbol.asyncDispose]: none };
});

const signal = new AbortController().signal;

test("the memory store fails the call that it was told to fail, and says so", async () => {
  const store = memoryStore();
  const struck = store.trouble({ method: "create", nth: 2, fail: new Fault("store-unreachable", "no answer") });
  await store.create("a", Buffer.from("1"), signal);
  await expect(store.create("b", Buffer.from("1"), signal)).rejects.toThrow("no answer");
  await store.create("b", Buffer.from("1"), signal);
  expect(struck()).toBe(1);
});

test("the memory store loses a reply after it did the work", async () => {
  const store = memoryStore();
  const struck = store.trouble({ method: "create", name: "b", loseReply: new Fault("store-unreachable", "no answer") });
  await expect(store.create("b", Buffer.from("1"), signal)).rejects.toThrow("no answer");
  expect(store.objects.has("b")).toBe(true);
  expect(struck()).toBe(1);
});
