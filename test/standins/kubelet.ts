import { spawn, type ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

/**
 * Watches a directory as a kubelet does: every file whose name does not begin with a dot is a pod, whatever it ends with; its command runs as long as the file is
 * there and is started again when it ends. Run as `node kubelet.ts DIRECTORY`; it says "watching" when it does. What it runs ends with it.
 */
const [, , directory = ""] = process.argv;
const running = new Map<string, ChildProcess>();

function look(): void {
  const wanted = new Map<string, readonly string[]>();
  for (const name of readdirSync(directory)) {
    if (name.startsWith(".")) continue;
    const pod = parse(readFileSync(join(directory, name), "utf8")) as {
      spec: { containers: { command: string[]; args?: string[] }[] };
    };
    for (const [index, { command, args = [] }] of pod.spec.containers.entries()) {
      wanted.set(`${name} ${index}`, [...command, ...args]);
    }
  }
  for (const [key, child] of running) if (!wanted.has(key)) child.kill("SIGTERM");
  for (const [key, [program = "", ...args]] of wanted) {
    if (running.has(key)) continue;
    const child = spawn(program, args, { stdio: "ignore" });
    running.set(key, child);
    child.once("close", () => running.delete(key));
  }
}

setInterval(look, 50);
process.on("disconnect", () => process.exit(0));
process.on("exit", () => {
  for (const child of running.values()) child.kill("SIGKILL");
});
process.on("SIGTERM", () => process.exit(0));
process.send?.("watching");
