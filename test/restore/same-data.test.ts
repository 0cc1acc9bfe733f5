import { expect, test } from "vitest";
import { compareData } from "../../src/restore/same-data.ts";
import { fakeEtcd, type FakeEtcd, type FakeScript } from "../fakes/etcd.ts";

const never = new AbortController().signal;
const built = { revision: "1000", compactRevision: "1000", hash: 7 };

/** Three members as they start after a restore: compacted up to their newest revision. */
function restored(version: string, changes: Partial<FakeScript> = {}): FakeEtcd {
  const members = ["m1", "m2", "m3"].map((name) => ({ name, hash: 7 }));
  return fakeEtcd({ version, members, revision: 1000n, compactRevision: 1000n, ...changes });
}

async function compare(etcd: FakeEtcd): ReturnType<typeof compareData> {
  const addresses = ["m1", "m2", "m3"].map((name) => etcd.address(name));
  return await compareData(etcd, addresses, built, never);
}

test.each(["3.3.27", "3.4.26", "3.4.37", "3.5.0", "3.5.9", "3.5.10", "3.6.16"])(
  "members of etcd %s that hold what was built are believed, and one that does not is named",
  async (version) => {
    const etcd = restored(version);
    expect(await compare(etcd)).toEqual({ kind: "as-built" });
    etcd.member("m2").hash = 8;
    await expect(compare(etcd)).rejects.toMatchObject({
      code: "restore-differs",
      message: expect.stringContaining("m2 holds other data than was restored: HashKV 8"),
    });
    etcd.member("m2").hash = 7;
    etcd.member("m3").compactRevision = 999n;
    await expect(compare(etcd)).rejects.toMatchObject({ code: "restore-differs" });
    expect(etcd.open()).toBe(0);
  },
);

test.each(["3.3.27", "3.4.26", "3.5.9"])(
  "once a lease has expired, members of etcd %s must hold the same at one revision, and that the file was not compared is told",
  async (version) => {
    const etcd = restored(version, { revision: 1002n });
    for (const member of etcd.script.members) member.hash = 12;
    expect(await compare(etcd)).toEqual({ kind: "alike", revision: 1002n });
    etcd.member("m3").hash = 13;
    await expect(compare(etcd)).rejects.toMatchObject({
      code: "restore-differs",
      message: expect.stringContaining("m3 holds other data than m1"),
    });
    etcd.member("m3").status = { revision: 1001n };
    expect(await compare(etcd)).toEqual({ kind: "not-yet", why: "m3 is at revision 1001, and m1 at 1002" });
  },
);

test("a later patch compares with the file also after leases have expired", async () => {
  const etcd = restored("3.5.10", { revision: 1002n });
  expect(await compare(etcd)).toEqual({ kind: "as-built" });
  etcd.member("m1").hash = 8;
  await expect(compare(etcd)).rejects.toMatchObject({ code: "restore-differs" });
});
