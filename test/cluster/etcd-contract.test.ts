import { Etcd3 } from "etcd3";
import { openEtcd } from "../../src/etcd/connect.ts";
import type { MemberAddress } from "../../src/etcd/etcd.ts";
import { etcdContract } from "../contracts/etcd.ts";
import type { EtcdSubject } from "../contracts/etcd.ts";
import type { TestMember } from "./harness.ts";
import { startCluster } from "./harness.ts";
import type { Minor } from "./servers.ts";
import { minors } from "./servers.ts";

for (const minor of minors) etcdContract(`etcd ${minor} keeps the contract`, () => start(minor), 120_000);

async function start(minor: Minor): Promise<EtcdSubject> {
  const cluster = await startCluster({ minor, members: 3 });
  const voters = cluster.members.map(addressOf);
  const learner = minor === "3.3" ? undefined : addressOf(await cluster.addMember({ learner: true }));
  const etcd = openEtcd({ endpoints: voters.map((voter) => voter.url) });
  // A learner takes no writes, and etcdctl does not know which endpoint is one.
  const ofVoters = { endpoints: voters.map((voter) => voter.url) };
  return {
    etcd,
    voters,
    learner,
    learnerSnapshots: minor !== "3.4",
    down: { name: "down", url: "http://127.0.0.1:1" },
    minor: Number(minor.split(".")[1]),
    put: async (key, value) => {
      const answer = await cluster.etcdctl(["put", key, value, "--write-out=json"], ofVoters);
      return BigInt(/"revision":(\d+)/.exec(answer)?.[1] ?? 0);
    },
    compact: async (revision) => {
      await cluster.etcdctl(["compact", revision.toString()], ofVoters);
    },
    call: async ({ url }) => {
      await cluster.etcdctl(["get", "nothing"], { endpoints: [url] });
    },
    raiseNoSpace: async (memberId) => {
      const client = new Etcd3({ hosts: voters.map((voter) => voter.url) });
      await client.maintenance.alarm({ action: "Activate", memberID: memberId.toString(), alarm: "Nospace" });
      client.close();
    },
    [Symbol.asyncDispose]: async () => {
      await etcd[Symbol.asyncDispose]();
      await cluster[Symbol.asyncDispose]();
    },
  };
}

function addressOf({ name, clientUrl }: TestMember): MemberAddress {
  return { name, url: clientUrl };
}
