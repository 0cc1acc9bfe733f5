import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openEtcd } from "../../src/etcd/connect.ts";
import type { Etcd, MemberAddress } from "../../src/etcd/etcd.ts";
import type { TestCluster } from "./harness.ts";
import { startCluster } from "./harness.ts";
import { minors } from "./servers.ts";
import type { Issued } from "./tls.ts";
import { createAuthority } from "./tls.ts";

const auth = { rootPassword: "secret" };

describe.each(minors)("etcd %s", { timeout: 180_000 }, (minor) => {
  const number = Number(minor.split(".")[1]);

  test("login by password: every way to be refused is told, and a token that was invalidated is renewed", async () => {
    await using cluster = await startCluster({ minor, auth });
    const at = first(cluster);
    await cluster.etcdctl(["user", "add", "plain:secret"]);
    await using nobody = openEtcd({ endpoints: [at.url] });
    await refused(nobody, at, /authentication on, but no user is configured/);
    await using wrong = openEtcd({ endpoints: [at.url], auth: { username: "root", password: async () => "wrong" } });
    await refused(wrong, at, /refuses the user root or its password/);
    await using plain = openEtcd({ endpoints: [at.url], auth: { username: "plain", password: async () => "secret" } });
    await refused(plain, at, /the user plain lacks the root role/);

    let asked = 0;
    const password = async (): Promise<string> => {
      asked += 1;
      return "secret";
    };
    await using root = openEtcd({ endpoints: [at.url], auth: { username: "root", password } });
    await using member = root.connect(at);
    expect(await drain(root, at)).toBeGreaterThan(1);
    await member.hashKv(0n, soon());
    const said = await member.authStatus(soon());
    expect(said.enabled).toBe(true);
    expect(said.revision === undefined).toBe(number < 5);
    expect(asked).toBe(1);
    const calls = [() => drain(root, at), () => member.hashKv(0n, soon()), () => member.linearizableRead(soon())];
    for (const [index, call] of calls.entries()) {
      // Every token is forgotten when authentication is turned off.
      await cluster.etcdctl(["auth", "disable"]);
      await cluster.etcdctl(["auth", "enable"], { env: { ETCDCTL_USER: "" } });
      await expect(call()).resolves.toBeDefined();
      expect(asked).toBe(index + 2);
    }
  });

  test("a member that restarts is reached again by the same connection, which counts it", async () => {
    await using cluster = await startCluster({ minor, auth });
    const at = first(cluster);
    await using etcd = openEtcd({ endpoints: [at.url], auth: { username: "root", password: async () => "secret" } });
    await using member = etcd.connect(at);
    await member.hashKv(0n, soon());
    expect(member.connections).toBe(1);
    await cluster.members[0]?.stop("SIGKILL");
    await expect(member.status(soon())).rejects.toMatchObject({ code: "etcd-unreachable" });
    await cluster.members[0]?.start();
    await expect.poll(() => answers(member.hashKv(0n, soon()))).toBe(true);
    expect(await drain(etcd, at)).toBeGreaterThan(1);
    expect(member.connections).toBeGreaterThan(1);
  });

  test("mutual TLS: the CN is the user, each wrong certificate is told apart, and replaced files are used", async () => {
    await using cluster = await startCluster({ minor, tls: true, auth });
    const { tls } = cluster;
    if (tls === undefined) throw new Error("the cluster has no TLS");
    const at = first(cluster);
    const { ca } = tls;
    const foreign = await createAuthority(join(cluster.directory, "foreign"), "another authority");
    const rotated = { cert: join(cluster.directory, "rotated.crt"), key: join(cluster.directory, "rotated.key") };
    const expired = await tls.authority.issue({ commonName: "root", fileName: "expired", expired: true });
    await replace(rotated, await foreign.issue({ commonName: "root" }));

    await using root = openEtcd({ endpoints: [at.url], tls: { ca, ...rotated } });
    await refusedTls(root, /refuses the client certificate .*rotated\.crt: (unknown ca|bad certificate)/);
    await refusedTls(openEtcd({ endpoints: [at.url], tls: { ca } }), /asks for a client certificate, and none is/);
    await refusedTls(openEtcd({ endpoints: [at.url], tls: { ca, ...expired } }), /expired\.crt expired on/);
    await refusedTls(
      openEtcd({ endpoints: [at.url], tls: { ...tls.root, ca: foreign.ca } }),
      /not signed by a CA that/,
    );
    await refusedTls(openEtcd({ endpoints: [at.url.replace("https:", "http:")] }), /speaks TLS/);

    await replace(rotated, tls.root);
    await expect.poll(() => answers(root.members(soon()))).toBe(true);
    expect(await drain(root, at)).toBeGreaterThan(1);
    await using stranger = openEtcd({ endpoints: [at.url], tls: { ca, cert: tls.cert, key: tls.key } });
    await refused(stranger, at, /knows no user client/);

    // etcd reads its certificate at every handshake.
    await tls.authority.issue({ commonName: "etcd", fileName: "server", expired: true });
    await using late = openEtcd({ endpoints: [at.url], tls: { ca, ...tls.root } });
    await refusedTls(late, /server certificate of .* has expired/);
  });

  test("a wrong scheme is told, and a peer port is no client port from 3.6 on", async () => {
    await using cluster = await startCluster({ minor });
    const at = first(cluster);
    await refusedTls(openEtcd({ endpoints: [at.url.replace("http:", "https:")] }), /speaks plain HTTP/);
    await using peer = openEtcd({ endpoints: [cluster.members[0]?.peerUrl ?? ""] });
    // Up to 3.5 a peer port serves the whole API.
    if (number < 6) await expect(peer.members(soon())).resolves.toBeDefined();
    else await expect(peer.members(soon())).rejects.toMatchObject({ code: "etcd-not-etcd" });
  });
});

async function refused(etcd: Etcd, at: MemberAddress, message: RegExp): Promise<void> {
  await using member = etcd.connect(at);
  const fault = { code: "etcd-auth", message: expect.stringMatching(message) as string };
  await expect(member.hashKv(0n, soon())).rejects.toMatchObject(fault);
  await expect(drain(etcd, at)).rejects.toMatchObject(fault);
}

async function refusedTls(etcd: Etcd, message: RegExp): Promise<void> {
  await expect(etcd.members(soon())).rejects.toMatchObject({
    code: "etcd-tls",
    message: expect.stringMatching(message) as string,
  });
}

async function drain(etcd: Etcd, at: MemberAddress): Promise<number> {
  await using member = etcd.connect(at);
  let messages = 0;
  for await (const batch of member.snapshot(soon())) messages += batch.length;
  return messages;
}

async function answers(promise: Promise<unknown>): Promise<boolean> {
  return await promise.then(
    () => true,
    () => false,
  );
}

async function replace(pair: Issued, by: Issued): Promise<void> {
  await copyFile(by.cert, pair.cert);
  await copyFile(by.key, pair.key);
}

function first(cluster: TestCluster): MemberAddress {
  const [member] = cluster.members;
  if (member === undefined) throw new Error("no member was started");
  return { name: member.name, url: member.clientUrl };
}

function soon(): AbortSignal {
  return AbortSignal.timeout(60_000);
}
