import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { configJsonSchema } from "../../src/config/schema.ts";
import type { SchemaNode } from "../../src/config/schema.ts";

test("the committed JSON schema is what the code says", () => {
  const committed: unknown = JSON.parse(
    readFileSync(join(import.meta.dirname, "../../config/etcd-lifeboat.schema.json"), "utf8"),
  );
  expect(committed, "run: etcd-lifeboat config schema > config/etcd-lifeboat.schema.json").toStrictEqual(
    configJsonSchema(),
  );
});

test("every key of the configuration is described", () => {
  const undescribed: string[] = [];
  const walk = (node: SchemaNode, path: string): void => {
    for (const [key, child] of Object.entries(node.properties ?? {})) {
      if ((child.description ?? "") === "") undescribed.push(`${path}.${key}`);
      walk(child, `${path}.${key}`);
    }
    if (node.items !== undefined) walk(node.items, `${path}[]`);
    if (node.additionalProperties) walk(node.additionalProperties, `${path}.*`);
  };
  walk(configJsonSchema(), "");
  expect(undescribed).toStrictEqual([]);
});

test("no section takes keys that it does not know", () => {
  const open: string[] = [];
  const walk = (value: unknown, path: string): void => {
    if (typeof value !== "object" || value === null) return;
    if ("properties" in value && (!("additionalProperties" in value) || value.additionalProperties !== false))
      open.push(path);
    for (const [key, inner] of Object.entries(value)) walk(inner, `${path}/${key}`);
  };
  walk(configJsonSchema(), "");
  expect(open).toStrictEqual([]);
});
