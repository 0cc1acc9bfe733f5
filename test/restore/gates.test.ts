import type { LoginProof } from "../../src/bolt/auth.ts";
import { describe as suite, expect, test } from "vitest";
import type { LoginFacts, SettingsFacts } from "../../src/restore/facts.ts";
import { judgeRestore, type Preflight } from "../../src/restore/gates.ts";
import { describe, etcdOn, hostOf, liveFacts, nowMs, request, restoreFacts, service, sourceFacts } from "./facts.ts";

function judge(facts: Parameters<typeof restoreFacts>[0] = {}, asked: Parameters<typeof request>[0] = {}): Preflight {
  return judgeRestore(restoreFacts(facts), request(asked), describe);
}

function refused(preflight: Preflight): string {
  return preflight.refusals.map(({ message, hint }) => `${message} | ${hint}`).join("\n");
}

test("a healthy cluster and a proven backup of it are refused nothing", () => {
  const preflight = judge();
  expect(preflight.refusals).toEqual([]);
  expect(preflight.warnings).toEqual([]);
  expect(preflight.targets.map(({ host, name }) => `${host} ${name}`)).toEqual(["h1 m1", "h2 m2", "h3 m3"]);
  expect(preflight.minor).toBe("3.6");
});

suite("who will be a member", () => {
  test("a member that no host carries is refused by name, since it would stay behind with the old data", () => {
    const hosts = [hostOf("h1", "m1"), hostOf("h2", "m2")];
    expect(refused(judge({ hosts }))).toContain('the running cluster has a member "m3", and no host');
    // Of one that is dead no member can be removed.
    const dead = refused(judge({ hosts, live: undefined, liveFault: "nobody answers" }));
    expect(dead).toMatch(/the backup has a member "m3".*another machine can take its place, with its own peerUrls/);
    expect(dead).not.toContain("remove the member");
  });

  test("a host that carries a member nobody knows is refused, with the names that are known", () => {
    const hosts = [...restoreFacts().hosts.slice(0, 2), hostOf("h3", "wrong")];
    expect(refused(judge({ hosts }))).toMatch(/host h3 carries a member "wrong".*known are: m1, m2, m3/);
  });

  test("the running cluster's peer URLs are kept, and the backup's differences are named", () => {
    const source = sourceFacts({
      members: sourceFacts().members.map((member) =>
        member.name === "m2" ? { ...member, peerUrls: ["https://old.example:2380"] } : member,
      ),
    });
    const preflight = judge({ source });
    expect(preflight.targets[1]?.peerUrls).toEqual(["https://m2.example:2380"]);
    expect(preflight.warnings.join()).toContain("m2 had the peer URLs https://old.example:2380 in the backup");
  });

  test("a backup of another cluster is refused, also one with as many members", () => {
    const strange = ["a1", "a2", "a3"].map((name) => ({
      name,
      peerUrls: [`https://${name}.elsewhere:2380`],
      clientUrls: [`https://${name}.elsewhere:2379`],
      learner: false,
    }));
    const told = refused(judge({ source: sourceFacts({ members: strange }) }));
    expect(told).toMatch(/is of another cluster: its members were a1, a2, a3, and this one's are m1, m2, m3/);
    // Members that were replaced one by one, and a file that names none.
    const [first] = strange;
    const grown = [...sourceFacts().members.slice(0, 1), ...(first === undefined ? [] : [first])];
    expect(refused(judge({ source: sourceFacts({ members: grown }) }))).toBe("");
    expect(refused(judge({ source: sourceFacts({ members: [] }) }))).toBe("");
  });

  test("where nobody answers the backup's members count", () => {
    const preflight = judge({ live: undefined, liveFault: "nobody answers" });
    expect(preflight.refusals).toEqual([]);
    expect(preflight.targets).toHaveLength(3);
    expect(preflight.warnings.join()).toContain("etcd 3.6, which made the backup, is taken to be installed");
  });

  test("machines with other addresses are told by the configuration, as long as nobody answers", () => {
    const at = (name: string): string => `https://${name}.other.example:2380`;
    const hosts = ["m1", "m2", "m3"].map((name, index) =>
      hostOf(`h${index + 1}`, name, { etcd: etcdOn(name, { peerUrls: [at(name)] }) }),
    );
    const dead = { hosts, live: undefined, liveFault: "nobody answers" };
    const moved = judge(dead);
    expect(moved.refusals).toEqual([]);
    expect(moved.targets.map(({ peerUrls }) => peerUrls)).toEqual([[at("m1")], [at("m2")], [at("m3")]]);
    expect(moved.warnings.join()).toContain(
      `m2 had the peer URLs https://m2.example:2380 in the backup; it gets ${at("m2")}, as hosts.h2.etcd.peerUrls says`,
    );
    // Each can be looked at only where it is now.
    const blind = refused(judge({ ...dead, endpoints: [at("m1")] }));
    expect(blind).toContain("m1, m2, m3 moved, and the configuration names 1 endpoints for 3 members");
    const kept = judge({ hosts });
    expect(kept.targets[1]?.peerUrls).toEqual(["https://m2.example:2380"]);
    expect(kept.warnings.join()).not.toContain("it gets");
  });

  test("a learner is restored as a voter, and that is said", () => {
    const live = liveFacts({
      members: liveFacts().members.map((member) => ({ ...member, learner: member.name === "m3" })),
    });
    expect(judge({ live }).warnings).toContain("m3 was a learner; it is restored as a voter");
  });
});

test("a peer URL whose name no resolver knows is refused with the host and the name", () => {
  const hosts = [hostOf("h1", "m1", { etcd: etcdOn("m1", { unresolved: ["m3.example.org"] }) })];
  expect(refused(judge({ hosts }))).toContain("h1 cannot find the address of m3.example.org");
});

test("what is not started, what is although it does not run, and whose readiness nobody sees is said", () => {
  const services = [
    service("standby", "controller", { running: false, boots: "no" }),
    service("api", "api-server", { running: false, tellsReady: false }),
    service("scheduler", "controller", { running: false, boots: "unknown" }),
  ];
  const { warnings, refusals } = judge({ hosts: [hostOf("h1", "m1", { services }), ...restoreFacts().hosts.slice(1)] });
  expect(refusals).toEqual([]);
  expect(warnings).toEqual([
    "standby on h1 does not run and is disabled: it is not started afterwards; enable it first if it shall be",
    "api on h1 does not run now, and is started afterwards: a boot would start it",
    "whether api on h1 is ready cannot be seen: give it a ready or read URL under hosts.h1.services",
    "scheduler on h1 does not run now, and is started afterwards: it is configured and nothing says that it is disabled",
  ]);
});

suite("what is restored", () => {
  test("an unproven backup is refused until it is accepted by name", () => {
    const source = sourceFacts({ unproven: "members disagreed" });
    expect(refused(judge({ source }))).toContain("is not proven: members disagreed | take a proven backup");
    const accepted = judge({ source }, { acceptUnproven: true });
    expect(accepted.refusals).toEqual([]);
    expect(accepted.warnings.join()).toContain("is not proven: members disagreed");
  });

  test("a newer backup that is not proven is passed over, and named with the flags that take it", () => {
    const source = sourceFacts({ passedOver: "20261121T190000Z.slot.hourly" });
    expect(judge({ source }).warnings).toContain(
      "20261121T190000Z.slot.hourly is newer and not proven, so it is not taken; to go back to it: --backup 20261121T190000Z.slot.hourly --accept-unproven",
    );
  });

  test("authentication, leases, alarms and a downgrade of the backup are said", () => {
    const alarms = [{ memberId: 0xffn, kind: "NOSPACE" }];
    const said = judge({
      source: sourceFacts({ authEnabled: true, leases: 3, alarms, downgradeTarget: "3.5.0" }),
      login: login("accepted"),
    }).warnings;
    expect(said.join("\n")).toMatch(
      /authentication on[\s\S]*the user root of cluster.auth is accepted[\s\S]*downgrade to 3\.5\.0[\s\S]*NOSPACE of member ff[\s\S]*3 leases/,
    );
  });

  test("a service whose commands do not tell whether a boot starts it is enabled afterwards, and the plan says so", () => {
    const [first, ...others] = restoreFacts().hosts;
    const etcd = etcdOn("m1", { service: service("etcd", "etcd", { releaseEnables: true }) });
    const api = service("kube-apiserver", "api-server", { releaseEnables: true });
    const { warnings } = judge({ hosts: [{ ...first!, etcd, services: [api] }, ...others] });
    for (const what of ["kube-apiserver on h1", "etcd on h1"])
      expect(warnings).toContainEqual(expect.stringContaining(`${what} is enabled afterwards, since nothing tells`));
  });

  test("a user whom the backup does not let in is refused, with whom it would let in", () => {
    const source = sourceFacts({ authEnabled: true });
    for (const [verdict, why] of [
      ["wrong-password", "the user root of cluster.auth has another password in it"],
      ["unknown-user", "it knows no user root of cluster.auth"],
      ["not-root", "the user root of cluster.auth does not have the role root in it"],
      ["no-password", "the user root of cluster.auth has no password in it"],
    ] as const) {
      const { refusals } = judge({ source, login: login(verdict) });
      expect(refusals).toEqual([
        {
          message: `the backup has authentication on, with the users and passwords of its time: ${why}`,
          hint: expect.stringMatching(
            /\(there are: ops, root\): --snapshot-username NAME --snapshot-password-file FILE$/,
          ),
        },
      ]);
    }
    const nobody = { ...login("unknown-user"), by: "certificate", username: undefined } as const;
    expect(refused(judge({ source, login: nobody }))).toContain("of its time: nobody is configured");
    expect(judge({ source, login: login("too-costly") }).refusals).toEqual([]);
  });

  test("a user that is given for the time after the start is to be configured then; one for a backup without authentication is a surprise", () => {
    const given = { ...login("accepted"), by: "given", passwordFile: "/root/then" } as const;
    const source = sourceFacts({ authEnabled: true });
    expect(judge({ source, login: given }).warnings.join()).toContain(
      "the user root is accepted; cluster.auth must name it afterwards, with what is in /root/then",
    );
    const off = { ...login("accepted"), proof: undefined };
    expect(judge({ login: off }).warnings.join()).toContain("the backup has authentication off");
    expect(judge().warnings.join()).not.toContain("authentication");
  });
});

/** Whom the configuration names, and what the backup says to that. */
function login(verdict: LoginProof["verdict"]): LoginFacts {
  const proof = { verdict, roots: ["ops", "root"], authRevision: 4n };
  return { username: "root", by: "password", passwordFile: undefined, proof };
}

suite("the first revision", () => {
  test("is above everything that was ever seen, whoever saw it", () => {
    expect(judge().first).toMatchObject({ revision: 1_000_009_000n, bump: 1_000_004_000n });
    expect(judge().first.why).toContain("above revision 9000 of the running cluster");
    const highWater = { revision: 70_000n, seenMs: nowMs - 60_000, backup: "newest" };
    expect(judge({ highWater: [highWater] }).first.revision).toBe(1_000_070_000n);
    expect(judge({ live: undefined, highWater: [] }).first.revision).toBe(1_000_005_000n);
  });

  test("is above where an earlier restore began, of which there is no backup yet", () => {
    const restored = { revision: 1_000_005_000n, seenMs: nowMs - 1000, backup: "the restore 01X" };
    const backup = { revision: 8000n, seenMs: nowMs, backup: "newest" };
    const { first } = judge({ live: undefined, highWater: [backup, restored] });
    expect(first.revision).toBe(2_000_005_000n);
    expect(first.why).toContain("above revision 1000005000 of the restore 01X");
  });

  test("is above what a member that does not run has in its files, its log included, and names it", () => {
    const [first, second, ...others] = restoreFacts().hosts;
    const stopped = { revision: 8_000_000_000n, logEntries: 20n, writtenMs: nowMs - 60_000, broken: [] };
    const hosts = [
      { ...first!, etcd: etcdOn("m1", { stopped: { ...stopped, logEntries: 0n } }) },
      { ...second!, etcd: etcdOn("m2", { stopped }) },
      ...others,
    ];
    const judged = judge({ live: undefined, hosts });
    expect(judged.first.revision).toBe(9_000_000_020n);
    expect(judged.first.why).toContain(
      "above revision 8000000020 of the stopped member m2 on h2 (8000000000 in its database and at most 20 more in its log), seen 2026-11-21T11:59:00",
    );
    expect(judged.refusals).toEqual([]);
  });

  test("does without what cannot be read of a stopped member, and the plan says so", () => {
    const [first, ...others] = restoreFacts().hosts;
    const broken = ["its database cannot be read, so what it had reached is not known: page 7: no"];
    const stopped = { revision: undefined, logEntries: 0n, writtenMs: nowMs, broken };
    const judged = judge({ hosts: [{ ...first!, etcd: etcdOn("m1", { stopped }) }, ...others] });
    expect(judged.first.revision).toBe(1_000_009_000n);
    expect(judged.refusals).toEqual([]);
    expect(judged.warnings).toContain(`m1 does not run on h1, and ${broken[0]}`);
  });

  test("grows with the time in which nobody looked", () => {
    const days30 = 30 * 86_400;
    const highWater = { revision: 8000n, seenMs: nowMs - days30 * 1000, backup: "newest" };
    const source = sourceFacts({ takenMs: nowMs - days30 * 1000 });
    expect(judge({ live: undefined, highWater: [highWater], source }).first.revision).toBe(
      8000n + BigInt(days30 + 3600) * 2000n,
    );
  });

  test("a revision that cannot be right is refused", () => {
    const highWater = { revision: 2n ** 63n - 1n, seenMs: nowMs, backup: "nonsense" };
    expect(refused(judge({ highWater: [highWater] }))).toContain(
      "more than etcd can count: above revision 9223372036854775807 of nonsense",
    );
  });
});

suite("the hosts", () => {
  const one = (changes: Parameters<typeof etcdOn>[1]): Parameters<typeof restoreFacts>[0] => {
    const [first, ...others] = restoreFacts().hosts;
    return { hosts: [{ ...first!, etcd: etcdOn("m1", changes) }, ...others] };
  };

  test("one that cannot be reached is refused", () => {
    const [first, ...others] = restoreFacts().hosts;
    const hosts = [{ ...first!, fault: "no route", etcd: undefined, services: [] }, ...others];
    expect(refused(judge({ hosts }))).toContain("host h1 cannot be reached: no route");
  });

  test("one that answers what can be read in two ways is not called unreachable, and what helps is its own", () => {
    const [first, ...others] = restoreFacts().hosts;
    const fault = { fault: "two manifests of the pod etcd", remedy: "move one of them out" };
    const hosts = [{ ...first!, ...fault, etcd: undefined, services: [] }, ...others];
    expect(refused(judge({ hosts }))).toBe(
      "what runs on h1 cannot be told: two manifests of the pod etcd | move one of them out",
    );
  });

  const manifest = "/etc/kubernetes/manifests/etcd.yaml";
  const startedWith = (
    changes: Partial<SettingsFacts>,
    others: Parameters<typeof etcdOn>[1] = {},
  ): Parameters<typeof restoreFacts>[0] =>
    one({
      ...others,
      settings: {
        from: manifest,
        name: "m1",
        data: { inside: "/var/lib/etcd", onHost: "/var/lib/etcd", isConfigured: true },
        wal: undefined,
        forceNewCluster: false,
        ...changes,
      },
    });

  test("a manifest that starts etcd on another directory, or on none that stays, is refused though nothing runs", () => {
    expect(judge(startedWith({})).refusals).toEqual([]);
    const data = { inside: "/var/lib/etcd", onHost: "/srv/etcd-2", isConfigured: false };
    expect(refused(judge(startedWith({ data })))).toBe(
      `${manifest} of h1 keeps etcd's data in /srv/etcd-2, and not where the configuration says | set hosts.h1.etcd.dataDirectory to /srv/etcd-2: the volume's hostPath counts, not what etcd calls it`,
    );
    expect(refused(judge(startedWith({ data: { ...data, onHost: undefined } })))).toContain(
      "keeps etcd's data in /var/lib/etcd of its container, on no hostPath: it is gone whenever the pod is",
    );
  });

  test("a log that only the manifest, or only the configuration, knows of would be replayed over the restored data", () => {
    const wal = { inside: "/wal", onHost: "/opt/wal", isConfigured: false };
    expect(refused(judge(startedWith({ wal })))).toContain("set hosts.h1.etcd.walDirectory to /opt/wal");
    const hosts = startedWith({}, { walDirectory: "/opt/wal" });
    expect(refused(judge(hosts))).toMatch(/gives etcd no --wal-dir.*leave hosts\.h1\.etcd\.walDirectory out/);
  });

  test("a manifest of another member, or with --force-new-cluster left in it, is refused", () => {
    expect(refused(judge(startedWith({ name: "m9" })))).toContain(
      "starts etcd as m9, and the configuration says that h1 runs m1",
    );
    expect(refused(judge(startedWith({ forceNewCluster: true })))).toContain("--force-new-cluster");
  });

  test("a member without its log in the data directory keeps it elsewhere: it would be replayed over the restored data", () => {
    expect(refused(judge(one({ hasWal: false })))).toMatch(/has no wal directory.*walDirectory/s);
  });

  test("a log of its own that holds nothing is not etcd's, and one inside of member would go with it", () => {
    expect(refused(judge(one({ hasWal: false, walDirectory: "/opt/wal" })))).toContain(
      "/opt/wal of h1 holds no log of etcd, and a member is there",
    );
    expect(judge(one({ hasMember: false, hasWal: false, walDirectory: "/opt/wal" })).refusals).toEqual([]);
    const inside = one({ walDirectory: "/var/lib/etcd/member/wal" });
    expect(refused(judge(inside))).toContain("the walDirectory /var/lib/etcd/member/wal of h1 is inside of");
    expect(judge(one({ walDirectory: "/var/lib/etcd/log" })).refusals).toEqual([]);
  });

  test("an etcd that runs and works in another directory is refused", () => {
    expect(refused(judge(one({ servesElsewhere: true })))).toMatch(
      /etcd runs on h1 and does not have \/var\/lib\/etcd\/member\/snap\/db open.*dataDirectory to etcd's --data-dir/,
    );
  });

  test("what is mounted inside of member, or linked to, is refused with its path", () => {
    const mounted = one({ mountsInside: ["/var/lib/etcd/member/wal"] });
    expect(refused(judge(mounted))).toMatch(/member\/wal of h1 is a file system of its own.*--wal-dir/);
    const linked = one({ links: [{ path: "/var/lib/etcd/member/wal", target: "/fast/wal" }] });
    expect(refused(judge(linked))).toContain("/var/lib/etcd/member/wal of h1 is a symbolic link to /fast/wal");
    const data = one({ links: [{ path: "/var/lib/etcd", target: "/data/etcd" }], owner: undefined });
    expect(refused(judge(data))).toBe(
      "/var/lib/etcd of h1 is a symbolic link to /data/etcd | set hosts.h1.etcd.dataDirectory to where it leads",
    );
  });

  test("room for the new beside the old is asked for, on each disk", () => {
    expect(refused(judge(one({ freeBytes: 2 ** 30 })))).toContain("/var/lib/etcd on h1 has 1073741824 B free");
    const apart = one({ walDirectory: "/opt/wal", sameDisk: false, walFreeBytes: 1000 });
    expect(refused(judge(apart))).toContain("/opt/wal on h1 has 1000 B free");
    // What fits each by itself, and not both.
    const freeBytes = 2 ** 30 + 70 * 2 ** 20;
    const shared = { walDirectory: "/var/lib/wal", freeBytes, walFreeBytes: freeBytes };
    expect(refused(judge(one({ ...shared, sameDisk: true })))).toContain(`/var/lib/etcd on h1 has ${freeBytes} B free`);
    expect(judge(one({ ...shared, sameDisk: false })).refusals).toEqual([]);
  });

  test("room is asked for twice where the new data is built on the same disk", () => {
    const freeBytes = 2 ** 30 + 200 * 2 ** 20;
    expect(judge(one({ freeBytes })).refusals).toEqual([]);
    const text = refused(judge(one({ freeBytes, builtOnDisk: true })));
    expect(text).toContain(`/var/lib/etcd on h1 has ${freeBytes} B free`);
    expect(text).toContain("twice for a while, since it is built on the same disk");
    expect(text).toContain("set operations.directory to another disk");
    expect(judge(one({ freeBytes: freeBytes + 2 ** 30, builtOnDisk: true })).refusals).toEqual([]);
    const wal = { walDirectory: "/opt/wal", sameDisk: false, walFreeBytes: 200 * 2 ** 20 };
    expect(judge(one(wal)).refusals).toEqual([]);
    expect(refused(judge(one({ ...wal, builtOnWalDisk: true })))).toContain("/opt/wal on h1");
  });

  test("a data directory that is not there, or cannot be renamed, is refused", () => {
    expect(refused(judge(one({ owner: undefined, hasMember: false })))).toContain("/var/lib/etcd does not exist on h1");
    expect(refused(judge(one({ memberIsMountPoint: true })))).toContain("is a file system of its own");
  });

  test("a host whose disk was lost has nothing to move aside, and is restored all the same", () => {
    const preflight = judge(one({ hasMember: false, hasWal: false }));
    expect(preflight.refusals).toEqual([]);
    expect(preflight.warnings.join()).toContain("holds no member: there is nothing to move aside");
  });

  test("what a reboot would start is refused until the risk is accepted", () => {
    const [first, ...others] = restoreFacts().hosts;
    const hosts = [{ ...first!, services: [service("legacy", "client", { canHold: false })] }, ...others];
    expect(refused(judge({ hosts }))).toContain("a reboot of h1 during the restore would start legacy");
    expect(judge({ hosts }, { acceptRebootRisk: true }).warnings).toEqual([
      "a reboot of h1 during the restore would start legacy",
    ]);
  });

  test("a service that another operation holds is refused", () => {
    const [first, ...others] = restoreFacts().hosts;
    const hosts = [
      { ...first!, services: [service("kube-apiserver", "api-server", { heldBy: "01OTHER" })] },
      ...others,
    ];
    expect(refused(judge({ hosts }))).toContain("kube-apiserver on h1 is held by the operation 01OTHER");
  });
});

suite("the minor", () => {
  test("is that of the running members; several are refused", () => {
    const live = liveFacts();
    const mixed = live.members.map((member, index) => ({ ...member, version: index === 0 ? "3.7.1" : "3.6.16" }));
    expect(refused(judge({ live: { ...live, members: mixed } }))).toContain("different minors: 3.6, 3.7");
  });

  test("nobody who tells it is refused, with the flag that helps", () => {
    const source = sourceFacts({ serverVersion: undefined, storageVersion: undefined, clusterVersion: undefined });
    expect(refused(judge({ live: undefined, source }))).toContain("--etcd-minor");
    expect(judge({ live: undefined, source }, { minor: "3.4" })).toMatchObject({ refusals: [], minor: "3.4" });
  });

  test("a snapshot that the installed minor cannot start is refused", () => {
    const live = liveFacts();
    const older = { ...live, members: live.members.map((member) => ({ ...member, version: "3.5.35" })) };
    expect(refused(judge({ live: older }))).toContain("the snapshot is of etcd 3.6, and etcd 3.5 is older");
  });
});

test("what is lost is said in revisions and time", () => {
  expect(judge().lost).toContain("4000 revisions: the cluster is at 9000, the backup, 3600000 ms old, at 5000");
  expect(judge({ live: undefined }).lost).toContain("everything written since the backup");
});

suite("a member that survived", () => {
  const lost = liveFacts({
    quorum: false,
    members: liveFacts().members.map((member) =>
      member.name === "m2" ? member : { ...member, up: false, version: undefined, revision: undefined },
    ),
  });
  const survivor = {
    member: "m2",
    how: "replayed",
    tool: "etcd 3.6.16",
    index: 500n,
    lastIndex: 500n,
    uncommitted: 2n,
    replayed: 40n,
  } as const;
  const source = sourceFacts({ kind: "member", name: "member m2", lineage: undefined, survivor });

  test("is offered before the backup where quorum is lost, with the numbers, the live one first", () => {
    const hosts = restoreFacts().hosts.map((host) => ({
      ...host,
      etcd: etcdOn(host.etcd?.member ?? "", { service: service("etcd", "etcd", { running: false }) }),
    }));
    const { offers } = judge({ live: lost, hosts });
    expect(offers).toHaveLength(3);
    expect(offers[0]).toContain("m2 is alive at revision 9000, 4000 after");
    expect(offers[0]).toContain("etcd-lifeboat restore --from-member m2");
    expect(offers[1]).toContain("m1 is stopped on h1, and its database was written until 2026-11-21T12:00:00.000Z");
    expect(judge({ hosts }).offers).toEqual([]);
  });

  test("is not offered when the backup has as much, or its data is gone", () => {
    const hosts = restoreFacts().hosts.map((host) => ({
      ...host,
      etcd: etcdOn(host.etcd?.member ?? "", { hasMember: false }),
    }));
    expect(judge({ live: lost, hosts }).offers).toEqual([]);
    expect(judge({ live: lost, source: sourceFacts({ revision: 9000n }) }).offers).toEqual([]);
  });

  test("says what of its log was applied, and what nobody knows of it", () => {
    const { warnings, lost: forgotten } = judge({ live: lost, source });
    const said = warnings.join("\n");
    expect(said).toContain("no other member is left to compare m2 with");
    expect(said).toContain("40 entries were only in the log of m2: etcd 3.6.16 has applied them");
    expect(said).toContain("whether the last 2 of them were committed: they are kept");
    expect(forgotten).toContain("only what never reached m2, which is at revision 5000, entry 500");
    const alive = { ...survivor, how: "live", lastIndex: 503n, tool: undefined, replayed: 0n } as const;
    expect(judge({ live: lost, source: { ...source, survivor: alive } }).warnings.join("\n")).toContain(
      "the last 3 entries of the log of m2 are not in its snapshot",
    );
  });

  test("is refused while the cluster has quorum: a backup of it can be proven", () => {
    expect(refused(judge({ source }))).toContain("the cluster has quorum");
  });
});

suite("another cluster from a backup", () => {
  const places = ["s1", "s2", "s3"];
  const hosts = places.map((name) =>
    hostOf(`host-${name}`, name, {
      etcd: etcdOn(name, { hasMember: false, hasWal: false, peerUrls: [`https://${name}.staging.example:2380`] }),
      services: [],
    }),
  );
  const endpoints = places.map((name) => `https://${name}.staging.example:2379`);
  const staging = { cluster: "staging", live: undefined, liveFault: "nobody", highWater: [], hosts, endpoints };
  const asNew = { asNew: true, lineage: undefined };

  test("has its own members, and says that the original is not touched", () => {
    const preflight = judge(staging, asNew);
    expect(preflight.refusals).toEqual([]);
    expect(preflight.targets).toEqual(
      places.map((name) => ({ host: `host-${name}`, name, peerUrls: [`https://${name}.staging.example:2380`] })),
    );
    expect(preflight.lost).toContain("the cluster that the backup is of is not touched");
  });

  test("is refused where one of its addresses is a place of the original, or it is the original", () => {
    const shared = [...endpoints.slice(1), "https://m2.example:9999"];
    expect(refused(judge({ ...staging, endpoints: shared }, asNew))).toContain(
      "an endpoint, https://m2.example:9999, is a place of m2 of the original cluster",
    );
    expect(refused(judge({}, asNew))).toContain("the peer URL of m1, https://m1.example:2380, is a place of m1");
    const source = sourceFacts({ clusterId: liveFacts().clusterId });
    expect(refused(judge({ source }, asNew))).toContain("is the very cluster that the backup is of");
    expect(refused(judge({ ...staging, source: sourceFacts({ members: [] }) }, asNew))).toContain(
      "does not tell who the members of the original are",
    );
  });

  test("on one machine the ports tell two clusters apart", () => {
    const on = (port: number): string => `http://127.0.0.1:${port}`;
    const [host] = hosts;
    const one = {
      ...staging,
      endpoints: [on(3379)],
      hosts: [{ ...host!, etcd: etcdOn("s1", { peerUrls: [on(3380)] }) }],
    };
    const source = (port: number): ReturnType<typeof sourceFacts> =>
      sourceFacts({
        members: [{ name: "m1", peerUrls: ["http://localhost:2380"], clientUrls: [on(port)], learner: false }],
      });
    expect(refused(judge({ ...one, source: source(2379) }, asNew))).toBe("");
    expect(refused(judge({ ...one, source: source(3379) }, asNew))).toContain("is a place of m1");
  });

  test("needs peer URLs for every member, and an endpoint to look at each", () => {
    const [first, ...others] = hosts;
    const bare = [{ ...first!, etcd: etcdOn("s1") }, ...others];
    expect(refused(judge({ ...staging, hosts: bare }, asNew))).toContain("set hosts.host-s1.etcd.peerUrls");
    expect(refused(judge({ ...staging, endpoints: endpoints.slice(1) }, asNew))).toContain(
      "3 members, and the configuration names 2",
    );
  });
});

test("a member that was added and has never started is named, and no difference of an empty name is told", () => {
  const live = liveFacts();
  const nameless = { ...live.members[0]!, name: "", peerUrls: ["https://m4.example:2380"], up: false };
  const facts = restoreFacts({ live: { ...live, members: [...live.members, nameless] } });
  const { warnings } = judgeRestore(facts, request(), describe);
  expect(warnings.filter((warning) => warning.includes("https://m4.example:2380"))).toEqual([
    expect.stringMatching(/added and has never started/),
  ]);
  expect(warnings.some((warning) => warning.startsWith(" "))).toBe(false);
});
