import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openLocalHost } from "../../src/host/local.ts";
import { hostContract, type OpenedHost } from "../contracts/host.ts";
import { fakeHost } from "../fakes/host.ts";

const signal = new AbortController().signal;
const host = openLocalHost("cp1");

async function openLocal(): Promise<OpenedHost> {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-host-"));
  return {
    host,
    directory,
    [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true, force: true }),
  };
}

hostContract("this machine", openLocal);

hostContract("the fake", async () => {
  const fake = fakeHost("fake");
  await fake.makeDirectory("/srv/test", { mode: 0o755 }, signal);
  return { host: fake, directory: "/srv/test", [Symbol.asyncDispose]: async () => await Promise.resolve() };
});

describe("what runs on this machine", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "lifeboat-host-"));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  test("a process is seen with its arguments, directory and etcd's own variables, and nothing else of its environment", async () => {
    const child = spawn("/bin/sleep", ["604"], {
      cwd: directory,
      env: { ETCD_DATA_DIR: "/var/lib/a b", ETCD_NAME: "n1", ETCD_ROOT_PASSWORD: "hunter2" },
    });
    try {
      await once(child, "spawn");
      const found = (await host.processes(signal)).find(({ pid }) => pid === child.pid);
      expect(found).toMatchObject({
        comm: "sleep",
        argv: ["/bin/sleep", "604"],
        parent: process.pid,
        directory,
        etcdEnvironment: { ETCD_DATA_DIR: "/var/lib/a b", ETCD_NAME: "n1" },
        zombie: false,
      });
      expect(JSON.stringify({ ...found, startTicks: "" })).not.toContain("hunter2");
      expect(found?.startTicks).toBeGreaterThan(0n);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("who has a file open is found by the file, also through another name of it", async () => {
    const path = join(directory, "db");
    await writeFile(path, "x");
    await symlink(path, join(directory, "other"));
    const child = spawn("/bin/sh", ["-c", 'exec 3<"$0"; echo ready; exec sleep 605 <&3', path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(child.stdout, "data");
      await expect.poll(async () => await host.holders(join(directory, "other"), signal)).toEqual([child.pid]);
      expect(await host.holders(join(directory, "nothing"), signal)).toEqual([]);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("ports that are listened on and who talks to them are seen, with their processes", async () => {
    for (const address of ["127.0.0.1", "::1"]) {
      const server = createServer();
      server.listen(0, address);
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const client = connect(port, address);
      await once(server, "connection");
      expect(await host.listeners(signal)).toContainEqual({ port, address, pid: process.pid });
      expect(await host.connections(port, signal)).toEqual([
        { localPort: port, remoteAddress: address, remotePort: client.localPort, pid: process.pid },
      ]);
      client.destroy();
      server.close();
      await once(server, "close");
      expect((await host.listeners(signal)).map((listener) => listener.port)).not.toContain(port);
    }
  });

  test("a link is told as such, and a mount point as well", async () => {
    await symlink(directory, join(directory, "link"));
    expect(await host.stat(join(directory, "link"), signal)).toMatchObject({
      kind: "link",
      isMountPoint: false,
      target: directory,
    });
    expect(await host.stat("/proc", signal)).toMatchObject({ kind: "directory", isMountPoint: true });
  });

  test("what is mounted below a path is told, also through a link to it", async () => {
    const mounts = await host.mountsBelow("/", signal);
    expect(mounts).toContain("/proc");
    expect(mounts).toEqual([...mounts].toSorted());
    await symlink("/", join(directory, "root"));
    expect(await host.mountsBelow(join(directory, "root"), signal)).toEqual(mounts);
    expect(await host.mountsBelow("/proc", signal)).not.toContain("/proc");
  });

  test("a mount point is neither moved nor removed", async () => {
    await expect(host.rename("/proc", "/proc-of-nobody", signal)).rejects.toMatchObject({ code: "host-cross-device" });
    await expect(host.removeTree("/proc", signal)).rejects.toMatchObject({ code: "host-cross-device" });
  });
});
