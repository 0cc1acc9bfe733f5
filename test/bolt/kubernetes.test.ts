import { expect, test } from "vitest";
import { surveyKubernetes, type KubernetesFacts } from "../../src/bolt/kubernetes.ts";
import { History } from "./history.ts";
import { scratchFile } from "./scratch.ts";

function survey(history: History): KubernetesFacts {
  using scratch = scratchFile();
  scratch.set(history.file({}).db);
  return surveyKubernetes(scratch.path);
}

test("a database without Kubernetes has none of it", () => {
  const history = new History();
  history.change({ key: "/other/leases/a/b", value: "k8s:enc:aescbc:v1:key1:x" });
  expect(survey(history)).toEqual({ objects: 0, masterLeases: [], leases: [], nodeLeases: 0, encrypted: [] });
});

test("what was alive then is named: API servers, leaders, and nodes by their number", () => {
  const history = new History();
  history.change({ key: "/registry/masterleases/10.0.0.11", value: "a" });
  history.change({ key: "/registry/masterleases/10.0.0.12", value: "a" });
  history.change({ key: "/registry/leases/kube-system/kube-scheduler", value: "a" });
  history.change({ key: "/registry/leases/kube-system/gone", value: "a" });
  for (const node of ["n1", "n2"]) history.change({ key: `/registry/leases/kube-node-lease/${node}`, value: "a" });
  history.change({ key: "/registry/masterleases/10.0.0.12" });
  history.change({ key: "/registry/leases/kube-system/gone" });
  history.change({ key: "/registry/minions/n1", value: "a" });
  expect(survey(history)).toEqual({
    objects: 5,
    masterLeases: ["10.0.0.11"],
    leases: ["kube-system/kube-scheduler"],
    nodeLeases: 2,
    encrypted: [],
  });
});

test("API servers with a prefix of their own are known by the namespace that every cluster has, where it was written last", () => {
  const history = new History();
  history.change({ key: "/registry/namespaces/kube-system", value: "of a cluster that moved to another prefix" });
  history.change({ key: "/registry/masterleases/10.0.0.1", value: "a" });
  history.change({ key: "/kubernetes.io/namespaces/kube-system", value: "a" });
  history.change({ key: "/kubernetes.io/masterleases/10.0.0.11", value: "a" });
  history.change({ key: "/kubernetes.io/leases/kube-system/kube-scheduler", value: "a" });
  history.change({ key: "/kubernetes.io/secrets/default/a", value: "k8s:enc:aescbc:v1:key1:xyz" });
  history.change({ key: "/kubernetes.io/example.org/widgets/default/w", value: "k8s:enc:kms:v2:provider:xyz" });
  const moved = {
    objects: 5,
    masterLeases: ["10.0.0.11"],
    leases: ["kube-system/kube-scheduler"],
    nodeLeases: 0,
    encrypted: [
      { resource: "secrets", key: "aescbc:v1:key1", objects: 1 },
      { resource: "widgets.example.org", key: "kms:v2:provider", objects: 1 },
    ],
  };
  expect(survey(history)).toEqual(moved);
  // What was removed says nothing, and neither does a key that only ends alike, or an object of that name.
  history.change({ key: "/other/namespaces/kube-system", value: "a" });
  history.change({ key: "/other/namespaces/kube-system" });
  history.change({ key: "/another/mynamespaces/kube-system", value: "a" });
  history.change({ key: "/other/namespaces/kube-system-2", value: "a" });
  expect(survey(history)).toEqual(moved);
  history.change({ key: "/kubernetes.io/configmaps/namespaces/kube-system", value: "a" });
  expect(survey(history)).toEqual({ ...moved, objects: 6 });
  history.change({ key: "/registry/namespaces/kube-system", value: "and back" });
  expect(survey(history)).toMatchObject({ objects: 2, masterLeases: ["10.0.0.1"] });
});

test("what is encrypted is counted by resource and key, as its newest value says", () => {
  const history = new History();
  const secret = (name: string, value: string): void =>
    history.change({ key: `/registry/secrets/default/${name}`, value });
  secret("a", "k8s:enc:aescbc:v1:old:xyz");
  secret("b", "k8s:enc:aescbc:v1:old:xyz");
  secret("c", "plain");
  secret("d", "k8s:enc:aescbc:v1:old:xyz");
  secret("a", "k8s:enc:secretbox:v1:new:xyz");
  secret("d", "plain again");
  history.change({ key: "/registry/secrets/default/b" });
  history.change({ key: "/registry/example.org/widgets/default/w", value: "k8s:enc:kms:v2:provider:xyz" });
  history.change({ key: "/registry/configmaps/default/c", value: "k8s:enc:" });
  expect(survey(history)).toMatchObject({
    objects: 5,
    encrypted: [
      { resource: "configmaps", key: "unknown", objects: 1 },
      { resource: "secrets", key: "secretbox:v1:new", objects: 1 },
      { resource: "widgets.example.org", key: "kms:v2:provider", objects: 1 },
    ],
  });
});

test("however many keys a hostile database names, only so many are told", () => {
  const history = new History();
  for (let number = 0; number < 400; number += 1)
    history.change({ key: `/registry/secrets/a/${number}`, value: `k8s:enc:aescbc:v1:key${number}:x` });
  const { encrypted } = survey(history);
  expect(encrypted.length).toBeLessThanOrEqual(258);
  expect(encrypted.reduce((sum, { objects }) => sum + objects, 0)).toBe(400);
});
