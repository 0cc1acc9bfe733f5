#!/usr/bin/env node
"use strict";
// The command's entry. It is CommonJS and of the oldest syntax there is: a module in newer syntax would die before its first line could tell an
// older Node what is needed.
var needed = 24;
if (parseInt(process.versions.node, 10) < needed) {
  process.stderr.write(
    "etcd-lifeboat needs Node " +
      needed +
      " or newer, this is " +
      process.version +
      ": put a newer node first on the PATH, or name it: /path/to/node etcd-lifeboat\n",
  );
  process.exit(78);
}
void import("./main.ts");
