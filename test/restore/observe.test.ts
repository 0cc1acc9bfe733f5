import { expect, test } from "vitest";
import { openLocalHost } from "../../src/host/local.ts";
import { observeHost, placeOf } from "../../src/restore/observe.ts";
import type { OpenHost } from "../../src/restore/restore.ts";
import { openStaticPod } from "../../src/service/static-pod.ts";
import { openSystemdService } from "../../src/service/systemd.ts";
import { steeredClock } from "../fakes/clock.ts";
import { fakeHost, type FakeHost } from "../fakes/host.ts";
import { fakeSystemd } from "../fakes/systemctl.ts";
import { openModel, openScratch } from "./model.ts";

const never = new AbortController().signal;

async function oneHost(): Promise<{ readonly host: FakeHost; readonly open: OpenHost }> {
  const host = fakeHost("h1");
  for (const directory of ["/etc/systemd/system", "/var/lib/etcd/member/snap", "/var/lib/etcd/member/wal"])
    await host.makeDirectory(directory, { mode: 0o700 }, never);
  await host.writeFile("/var/lib/etcd/member/snap/db", Buffer.from("data"), { mode: 0o600 }, never);
  fakeSystemd(host, ["etcd.service"]).start("etcd.service");
  const service = openSystemdService(host, { name: "etcd", role: "etcd", unit: "etcd.service" });
  const etcd = { member: "m1", service, dataDirectory: "/var/lib/etcd", walDirectory: undefined };
  return { host, open: { host, etcd, services: [] } };
}

test("mounts and links below a member's directory are seen, not only at it", async () => {
  const { host, open } = await oneHost();
  const clock = steeredClock(0);
  host.holding.set("/var/lib/etcd/member/snap/db", [1]);
  expect((await observeHost(open, clock, undefined, never)).etcd).toMatchObject({ mountsInside: [], links: [] });
  host.mounts.set("/var/lib/etcd/member/wal", "7");
  host.links.set("/var/lib/etcd/member/snap", "/fast/snap");
  expect((await observeHost(open, clock, undefined, never)).etcd).toMatchObject({
    memberIsMountPoint: false,
    mountsInside: ["/var/lib/etcd/member/wal"],
    links: [{ path: "/var/lib/etcd/member/snap", target: "/fast/snap" }],
  });
  host.links.set("/var/lib/etcd", "/data/etcd");
  expect((await observeHost(open, clock, undefined, never)).etcd).toMatchObject({ owner: undefined });
});

test("that new data is built on the disk of a host is known by its device, on this very machine alone", async () => {
  const { host, open } = await oneHost();
  const clock = steeredClock(0);
  host.holding.set("/var/lib/etcd/member/snap/db", [1]);
  const { device } = await host.space("/var/lib/etcd", never);
  const { bootId } = host;
  const built = async (place: { bootId: string; device: string } | undefined) =>
    (await observeHost(open, clock, place, never)).etcd;
  expect(await built({ bootId, device })).toMatchObject({ builtOnDisk: true, builtOnWalDisk: true });
  for (const place of [undefined, { bootId, device: `${device}0` }, { bootId: "another machine", device }])
    expect(await built(place)).toMatchObject({ builtOnDisk: false, builtOnWalDisk: false });
  // As this machine says it of itself.
  using scratch = openScratch();
  const here = openLocalHost("here");
  expect(await placeOf(scratch.directory)).toEqual({
    bootId: (await here.facts(never)).bootId,
    device: (await here.space(scratch.directory, never)).device,
  });
  expect(await placeOf(`${scratch.directory}/nothing`)).toBeUndefined();
});

test("an etcd that can be seen and does not have the database open works elsewhere; one that opens it within seconds, or cannot be seen, does not", async () => {
  const { host, open } = await oneHost();
  const looks = { slept: 0, opens: false };
  const clock = {
    ...steeredClock(0),
    sleep: async () => {
      looks.slept += 1;
      if (looks.opens) host.holding.set("/var/lib/etcd/member/snap/db", [4242]);
      await Promise.resolve();
    },
  };
  const elsewhere = async (): Promise<boolean | undefined> =>
    (await observeHost(open, clock, undefined, never)).etcd?.servesElsewhere;
  const [started] = host.running;
  if (started === undefined) throw new Error("etcd was not started");
  const be = (changes: object): void => void host.running.splice(0, 1, { ...started, comm: "etcd", ...changes });
  be({ directory: undefined });
  expect(await elsewhere()).toBe(false);
  be({ directory: "/" });
  expect(await elsewhere()).toBe(true);
  expect(looks.slept).toBe(1);
  looks.opens = true;
  expect(await elsewhere()).toBe(false);
  expect(looks.slept).toBe(2);
  expect(await elsewhere()).toBe(false);
  expect(looks.slept).toBe(2);
});

test("where a manifest keeps etcd's data is the directory of the configuration by any path that leads there", async () => {
  const { host, open } = await oneHost();
  const manifests = "/etc/kubernetes/manifests";
  host.programs.set("crictl", () => ({ status: 1 }));
  await host.makeDirectory(manifests, { mode: 0o755 }, never);
  const service = openStaticPod(host, { name: "etcd", role: "etcd", pod: "etcd", manifests });
  const keeps = async (path: string) => {
    const pod = {
      kind: "Pod",
      metadata: { name: "etcd" },
      spec: {
        containers: [
          {
            name: "etcd",
            command: ["etcd", "--name=m1", "--data-dir=/data/in"],
            volumeMounts: [{ name: "data", mountPath: "/data" }],
          },
        ],
        volumes: [{ name: "data", hostPath: { path } }],
      },
    };
    await host.writeFile(`${manifests}/etcd.yaml`, Buffer.from(JSON.stringify(pod)), { mode: 0o600 }, never);
    const etcd = { member: "m1", service, dataDirectory: "/var/lib/etcd", walDirectory: undefined };
    return (await observeHost({ ...open, etcd }, steeredClock(0), undefined, never)).etcd?.settings;
  };
  const data = { inside: "/data/in", onHost: "/var/lib/etcd", isConfigured: false };
  expect(await keeps("/srv")).toMatchObject({ data: { ...data, onHost: "/srv/in" }, from: `${manifests}/etcd.yaml` });
  expect(await keeps("/var/lib")).toMatchObject({ data: { ...data, onHost: "/var/lib/in" } });
  await host.makeDirectory("/srv/in", { mode: 0o700 }, never);
  expect((await keeps("/srv"))?.data.isConfigured).toBe(false);
  host.links.set("/srv/in", "/var/lib/etcd");
  expect((await keeps("/srv"))?.data.isConfigured).toBe(true);
});

test("names of peer URLs are asked on every host, and one that nobody knows refuses the plan", async () => {
  using scratch = openScratch();
  const nameless = ["m2.invalid"];
  const opened = openModel({ members: 3, nameless }, scratch.directory);
  const refused = await opened.then(
    () => "",
    (error: unknown) => String(error),
  );
  for (const host of ["h1", "h2", "h3"]) expect(refused).toContain(`${host} cannot find the address of m2.invalid`);
  expect(refused).not.toContain("m1.invalid");
});
