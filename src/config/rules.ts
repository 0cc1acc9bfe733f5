import { isLoopbackHost } from "./access.ts";
import { readListenAddress } from "./address.ts";
import { brokenHostRules, hostDoubts } from "./hosts-rules.ts";
import { dotted, isSection, storePaths, valueAt } from "./path.ts";
import type { Path } from "./path.ts";
import { quote } from "./quote.ts";
import type { Problem } from "./problems.ts";
import { oneStoreOnly } from "./schema.ts";
import type { Config } from "./schema.ts";

/** A doubt that does not stop anything; `about` is the dotted path that it concerns. */
export interface ConfigWarning {
  readonly about: string;
  readonly message: string;
}

/** Rules between values, checked on what was written, so that they are told together with what is wrong in the values. */
export function brokenRules(input: unknown): readonly Problem[] {
  const problems: Problem[] = [];
  const refuse = (path: Path, message: string): void => {
    problems.push({ path, message, part: "key" });
  };
  const has = (...path: Path): boolean => valueAt(input, path) !== undefined;

  if (has("cluster", "tls", "cert") && !has("cluster", "tls", "key")) {
    refuse(["cluster", "tls", "cert"], "is of no use without its key; write cluster.tls.key");
  }
  if (has("cluster", "tls", "key") && !has("cluster", "tls", "cert")) {
    refuse(["cluster", "tls", "key"], "is of no use without its certificate; write cluster.tls.cert");
  }
  const endpoints = texts(valueAt(input, ["cluster", "endpoints"]));
  if (has("cluster", "tls") && endpoints.length > 0 && endpoints.every((url) => /^http:/i.test(url))) {
    refuse(["cluster", "tls"], "is of no use with http:// endpoints; write https://, or remove the section");
  }
  for (const [index, url] of endpoints.entries()) {
    if (endpoints.indexOf(url) < index) refuse(["cluster", "endpoints", index], "is there twice");
  }

  const places = new Map<string, Path>();
  for (const path of storePaths(input)) {
    const store = valueAt(input, path);
    if (!isSection(store)) continue;
    if ((store["s3"] === undefined) === (store["directory"] === undefined)) refuse(path, oneStoreOnly);
    if (isSection(store["s3"]) && !has(...path, "s3", "region") && !has(...path, "s3", "endpoint")) {
      refuse([...path, "s3", "region"], "is missing; write the bucket's region, or set AWS_REGION");
    }
    const place = placeOf(store);
    const first = places.get(place);
    if (first === undefined && place !== "") places.set(place, path);
    else if (first !== undefined) refuse(path, `is the same place as ${dotted(first)}; a copy belongs elsewhere`);
  }
  refuseTwins(input, ["repository", "copies"], refuse);
  const extras = valueAt(input, ["repository", "extras"]);
  if (Array.isArray(extras) && extras.length > 0 && !has("repository", "encryption")) {
    refuse(["repository", "extras"], "would be stored unencrypted; write repository.encryption, or remove extras");
  }
  const signing = valueAt(input, ["repository", "signing"]);
  if (isSection(signing) && signing["key"] === undefined && texts(signing["trusted"]).length === 0) {
    refuse(["repository", "signing"], "names neither a key nor trusted keys; write one of them, or remove the section");
  }

  const retention = valueAt(input, ["retention"]);
  const rules = ["last", "hourly", "daily", "weekly", "monthly", "yearly", "within"];
  if (isSection(retention) && !rules.some((rule) => keepsSomething(retention[rule]))) {
    refuse(["retention"], `has no rule that keeps backups; write one of ${rules.join(", ")}, or remove the section`);
  }

  refuseTwins(input, ["schedules"], refuse);
  const listen = valueAt(input, ["http", "listen"]);
  if (typeof listen === "string" && !has("http", "tls") && !has("http", "token")) {
    const read = readListenAddress(listen);
    if ("value" in read && !isLoopbackHost(read.value.host)) {
      const message = `${quote(listen)} is not loopback, and nothing guards the pages; write http.token and http.tls, or 127.0.0.1:${read.value.port}`;
      problems.push({ path: ["http", "listen"], message, part: "value" });
    }
  }

  brokenHostRules(input, refuse);
  return problems;
}

/** Items of a list are found by their names. */
function refuseTwins(input: unknown, list: Path, refuse: (path: Path, message: string) => void): void {
  const names = new Map<string, number>();
  const items = valueAt(input, list);
  for (const index of Array.isArray(items) ? items.keys() : []) {
    const name = valueAt(items, [index, "name"]);
    if (typeof name !== "string") continue;
    const first = names.get(name);
    if (first === undefined) names.set(name, index);
    else refuse([...list, index, "name"], `is the name of ${dotted([...list, first])} already`);
  }
}

/** Where a store's objects are, however it is reached. */
function placeOf(store: Readonly<Record<string, unknown>>): string {
  const { s3, directory } = store;
  if (!isSection(s3)) return typeof directory === "string" ? directory.replace(/\/+$/, "") : "";
  return JSON.stringify([s3["endpoint"], s3["bucket"], s3["prefix"] ?? ""]);
}

/** What is allowed and still worth a word. */
export function doubts(config: Config): readonly ConfigWarning[] {
  const warnings: ConfigWarning[] = [];
  const { cluster, repository, schedules } = config;
  const plain = cluster.endpoints.filter((url) => url.startsWith("http:") && !isLoopback(url));
  const secure = cluster.endpoints.some((url) => url.startsWith("https:"));
  if (plain.length > 0) {
    const what = cluster.auth === undefined ? "the database" : "the database and the password";
    warnings.push({
      about: "cluster.endpoints",
      message: `${what} will cross the network without TLS: ${plain.join(", ")}`,
    });
  }
  if (secure && cluster.tls?.ca === undefined) {
    const message =
      "not set: the members' certificates are checked against the system's CAs, which seldom know etcd's own";
    warnings.push({ about: "cluster.tls.ca", message });
  }
  if (repository.encryption === undefined) {
    const message =
      "not set: backups are stored unencrypted, and whoever reads the store reads every value in etcd, all Secrets of Kubernetes among them";
    warnings.push({ about: "repository.encryption", message });
  }
  for (const [index, recipient] of (repository.encryption?.recipients ?? []).entries()) {
    if (!exampleRecipients.includes(recipient)) continue;
    const message = "is the key of the example, whose private half nobody has; make your own: age-keygen -o age.key";
    warnings.push({ about: dotted(["repository", "encryption", "recipients", index]), message });
  }
  if (
    repository.signing !== undefined &&
    repository.signing.trusted.length > 0 &&
    repository.signing.key === undefined
  ) {
    const message =
      "not set, but trusted keys are: what is backed up from here is unsigned, and refused wherever they are trusted";
    warnings.push({ about: "repository.signing.key", message });
  }
  if (config.http.token !== undefined && config.http.tls === undefined && !isLoopbackHost(config.http.listen.host)) {
    const message = "not set: the token will cross the network in the clear, and who hears it can read the pages";
    warnings.push({ about: "http.tls", message });
  }
  if (schedules.length === 0) {
    warnings.push({ about: "schedules", message: "empty: backups are taken by the command backup alone" });
  }
  for (const [name, host] of Object.entries(config.hosts)) warnings.push(...hostDoubts(name, host));
  return warnings;
}

/** The recipients of config/etcd-lifeboat.yaml; who copies that file and forgets them would encrypt to nobody. */
const exampleRecipients: readonly string[] = [
  "age1xc304nlqamdzcrsw3zzmtdle59637qjstsgg7fcgaz3c49d07v8qy5zrwc",
  "age1g3lgrzepmvzztpv7yrd9hmamvus7h53e9neajrntcja29syfxyxs6qsxth",
];

/** A number above 0, or a duration that is not 0. */
function keepsSomething(value: unknown): boolean {
  return typeof value === "string" ? /[1-9]/.test(value) : value !== undefined && value !== 0;
}

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

function isLoopback(url: string): boolean {
  const host = new URL(url).hostname;
  return isLoopbackHost(host.replace(/^\[(.*)\]$/, "$1"));
}
