import { once } from "node:events";
import { mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Below the ports that the kernel gives to outgoing connections and to listeners on port 0, so neither can take one
// of ours while its server is stopped.
const first = 20_000;
const last = 32_000;
const registry = join(tmpdir(), "lifeboat-ports");
const ours = new Set<number>();
process.on("exit", () => releasePorts([...ours]));

/** Ports on loopback that nobody listens on, kept from every other process of these tests until they are released. */
export async function reservePorts(count: number): Promise<readonly number[]> {
  mkdirSync(registry, { recursive: true });
  const reserved: number[] = [];
  for (let tries = 0; reserved.length < count; tries += 1) {
    if (tries > 1000 + count) throw new Error(`no free port between ${first} and ${last}; see ${registry}`);
    const port = first + Math.floor(Math.random() * (last - first));
    if (!claim(port)) continue;
    if (await isFree(port)) reserved.push(port);
    else releasePorts([port]);
  }
  return reserved;
}

/** Gives ports back. */
export function releasePorts(ports: readonly number[]): void {
  for (const port of ports) if (ours.delete(port)) unlinkSync(join(registry, String(port)));
}

/** Whether somebody takes connections there. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

function claim(port: number): boolean {
  if (ours.has(port)) return false;
  const path = join(registry, String(port));
  try {
    writeFileSync(path, String(process.pid), { flag: "wx" });
  } catch {
    if (!isStale(path)) return false;
    // Two processes may both find it stale; the one that writes second would believe the port its own, and fails to bind.
    writeFileSync(path, String(process.pid));
  }
  ours.add(port);
  return true;
}

function isStale(path: string): boolean {
  try {
    const pid = Number(readFileSync(path, "utf8"));
    if (!(pid > 0)) return false;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
