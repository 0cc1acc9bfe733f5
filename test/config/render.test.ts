import { join } from "node:path";
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { configDocument, renderConfig } from "../../src/config/render.ts";
import { scratchFile } from "./scratch.ts";

const text = `cluster:
  name: prod
  members: { cp2.example.org: { serverName: cp2.example.org } }
repository:
  store: { s3: { bucket: etcd-backups, endpoint: "https://s3.example.org" } }
  encryption:
    recipients: [age1xc304nlqamdzcrsw3zzmtdle59637qjstsgg7fcgaz3c49d07v8qy5zrwc]
    identity: { file: /root/age.key }
  signing: { key: { credential: manifest-key } }
schedules: [{ name: hourly, cron: "0 * * * *", jitter: 2m }]
`;

const env = {
  ETCDCTL_ENDPOINTS: "10.0.0.11:2379,10.0.0.12:2379",
  ETCDCTL_CACERT: "/etc/etcd/ca.crt",
  ETCDCTL_USER: "root:canary-hunter2",
  AWS_SECRET_ACCESS_KEY: "canary-hunter2",
};

test("config show gives every value with its origin, and secrets by their place alone", async () => {
  const path = scratchFile("etcd-lifeboat.yaml", text);
  const shown = renderConfig(loadConfig({ path, env, files: false })).replaceAll(path, "/etc/etcd-lifeboat.yaml");
  expect(shown).not.toContain("hunter2");
  await expect(shown).toMatchFileSnapshot(join(import.meta.dirname, "fixtures/show.txt"));
});

test("config show --json gives the same values with their origins", () => {
  const path = scratchFile("etcd-lifeboat.yaml", text);
  const loaded = loadConfig({ path, env, files: false });
  const document = configDocument(loaded);
  expect(document.schema).toBe("etcd-lifeboat/config-show/v1");
  expect(document.settings).toContainEqual({
    path: "schedules[0].jitter",
    value: "2m",
    origin: { kind: "file", line: 10, column: 56 },
  });
  expect(document.settings).toContainEqual({
    path: "cluster.auth.password",
    value: { env: "ETCDCTL_USER" },
    origin: { kind: "env", name: "ETCDCTL_USER" },
  });
  expect(document.settings.every(({ origin }) => origin !== undefined)).toBe(true);
  expect(JSON.stringify(document) + inspect(loaded, { depth: 20 })).not.toContain("hunter2");
});

test("control characters of a file never reach the terminal", () => {
  const path = scratchFile(
    "etcd-lifeboat.yaml",
    text.replace("name: prod", 'name: prod\n  auth: { username: "\\e[31mroot", password: { env: PW } }'),
  );
  const shown = renderConfig(loadConfig({ path, env: { ...env, ETCDCTL_USER: "" }, files: false }));
  expect(shown).toContain(String.raw`"\u001b[31mroot"`);
  expect(shown).not.toContain("\u001b");
});
