import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { refuseRestartOnly } from "../../src/config/reload.ts";
import type { Config } from "../../src/config/schema.ts";
import { scratchFile } from "./scratch.ts";

const text = `
cluster: { name: dev, endpoints: ["http://127.0.0.1:2379"] }
repository: { store: { directory: /var/backups/etcd } }
schedules: [{ name: hourly, cron: "0 * * * *" }]
`;

function load(of: string): Config {
  return loadConfig({ path: scratchFile("etcd-lifeboat.yaml", of), env: {}, files: false }).config;
}

test("what a running process is bound to is named and refused, and everything else may change", () => {
  const config = load(text);
  expect(() => refuseRestartOnly(config, load(text))).not.toThrow();
  const other = text.replace("hourly", "daily").replace("/var/backups/etcd", "/srv").replace("2379", "2390");
  expect(() => refuseRestartOnly(config, load(`${other}log: { level: debug }`))).not.toThrow();
  expect(() => refuseRestartOnly(config, load(`${text}http: { tls: { cert: /c, key: { file: /k } } }`))).toThrow(
    "http.tls cannot be changed while it runs",
  );
  const bound = `${text.replace("name: dev", "name: prod")}http: { listen: "127.0.0.1:1" }\nlog: { format: text }`;
  expect(() => refuseRestartOnly(config, load(bound))).toThrow(
    "cluster.name and http.listen and log.format cannot be changed while it runs",
  );
});
