import { readFileSync } from "node:fs";

/** The text of etcd.proto. A module of its own, so that a bundler can put the text in place of the read. */
export const protoText: string = readFileSync(new URL("./etcd.proto", import.meta.url), "utf8");
