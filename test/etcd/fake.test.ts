import { etcdContract } from "../contracts/etcd.ts";
import { fakeEtcd } from "../fakes/etcd.ts";

etcdContract("the fake etcd keeps the contract", async () => {
  const etcd = fakeEtcd({ members: [{ name: "e1" }, { name: "e2" }, { name: "e3" }, { name: "l1", learner: true }] });
  const { script } = etcd;
  return {
    etcd,
    voters: ["e1", "e2", "e3"].map(etcd.address),
    learner: etcd.address("l1"),
    down: { name: "down", url: "http://down.invalid:2379" },
    learnerSnapshots: true,
    minor: 6,
    put: async () => (script.revision = (script.revision ?? 50n) + 1n),
    compact: async (revision) => {
      script.compactRevision = revision;
    },
    call: async ({ name }) => {
      etcd.member(name).clientCalls = {
        startedSeconds: 1,
        calls: 1,
        byMethod: new Map([["Range", 1]]),
        openStreams: 0,
        watchers: 0,
      };
    },
    raiseNoSpace: async (memberId) => {
      script.alarms = [{ memberId, kind: "NOSPACE" }];
    },
    [Symbol.asyncDispose]: () => etcd[Symbol.asyncDispose](),
  };
});
