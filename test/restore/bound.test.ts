import { expect, test } from "vitest";
import type { OpenHost } from "../../src/restore/restore.ts";
import { refuseOtherPlaces } from "../../src/restore/bound.ts";
import { judgeRestore } from "../../src/restore/gates.ts";
import { planRestore } from "../../src/restore/plan.ts";
import type { JournalRecord } from "../../src/runbook/journal.ts";
import { openStaticPod } from "../../src/service/static-pod.ts";
import { openSystemdService } from "../../src/service/systemd.ts";
import { fakeHost } from "../fakes/host.ts";
import { describe, etcdOn, request, restoreFacts } from "./facts.ts";

/** What `restoreFacts` saw, as its configuration opens it. */
function configured(change: (host: OpenHost) => OpenHost = (host) => host): readonly OpenHost[] {
  return restoreFacts().hosts.map(({ name, etcd, services }) => {
    const host = fakeHost(name);
    const unit = (service: string) =>
      openSystemdService(host, { name: service, role: "client", unit: `${service}.service` });
    const open: OpenHost = {
      host,
      etcd: {
        member: etcd?.member ?? "",
        service: unit("etcd"),
        dataDirectory: etcd?.dataDirectory ?? "",
        walDirectory: etcd?.walDirectory,
      },
      services: services.map((service) => ({ service: unit(service.name) })),
    };
    return name === "h2" ? change(open) : open;
  });
}

function refused(hosts: readonly OpenHost[], facts = restoreFacts(), entries: JournalRecord["entries"] = []): string {
  const plan = planRestore(facts, request(), judgeRestore(facts, request(), describe));
  const record: JournalRecord = { plan, entries, executing: undefined, place: "/journal" };
  try {
    refuseOtherPlaces(record, { cluster: "prod", hosts });
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint: string };
    return `${code}: ${message} | ${hint}`;
  }
  return "";
}

const back = "again as it was then, until the operation is finished or taken back";

test("the configuration that planned an operation continues it", () => {
  expect(refused(configured())).toBe("");
});

test("etcd that is run in another way than it was planned is refused: what is held in one is not released in another", () => {
  const pod = configured(({ etcd, ...others }) => {
    const options = { name: "etcd", role: "etcd", pod: "etcd", manifests: "/etc/kubernetes/manifests" } as const;
    return { ...others, etcd: etcd && { ...etcd, service: openStaticPod(others.host, options) } };
  });
  const was = "etcd on h2 was run as etcd.service, and the configuration now says";
  expect(refused(pod)).toContain(
    `${was} static pod etcd of /etc/kubernetes/manifests | describe hosts.h2.etcd.service ${back}`,
  );
  const unit = configured(({ etcd, ...others }) => {
    const service = openSystemdService(others.host, { name: "etcd", role: "etcd", unit: "etcd2.service" });
    return { ...others, etcd: etcd && { ...etcd, service } };
  });
  expect(refused(unit)).toContain(`${was} etcd2.service`);
  // What has ended holds nothing any more.
  expect(refused(unit, restoreFacts(), [{ kind: "ended", timeMs: 0, outcome: "done" }])).toBe("");
});

test("so is a service of the control plane, by its unit or its manifests directory", () => {
  const hosts = configured((open) => ({
    ...open,
    services: open.services.map(({ service }) => ({
      service: openSystemdService(open.host, { ...service, unit: `my-${service.name}.service` }),
    })),
  }));
  expect(refused(hosts)).toMatch(
    /kube-controller-manager on h2 was run as kube-controller-manager\.service, and .* says my-kube-controller-manager\.service \| describe hosts\.h2\.services again/,
  );
});

test("a log directory that was added or left out since is refused", () => {
  const moved = configured(({ etcd, ...others }) => ({
    ...others,
    etcd: etcd && { ...etcd, walDirectory: "/opt/wal" },
  }));
  expect(refused(moved)).toContain("the log of h2 is in /var/lib/etcd/member/wal, and not in /opt/wal");
  const hosts = restoreFacts().hosts.map((host) =>
    host.name === "h2" ? { ...host, etcd: etcdOn("m2", { walDirectory: "/opt/wal" }) } : host,
  );
  expect(refused(configured(), restoreFacts({ hosts }))).toContain(
    "the log of h2 is in /opt/wal, and not in /var/lib/etcd/member/wal",
  );
});

test("no step escapes the comparison: neither by the name of a service nor by a host that was left", () => {
  const plan = planRestore(restoreFacts(), request(), judgeRestore(restoreFacts(), request(), describe));
  const moved = (args: Readonly<Record<string, string>>): JournalRecord["plan"] => ({
    ...plan,
    steps: plan.steps.map((step) => (step.id === "swap.h1" ? { ...step, args: { ...step.args, ...args } } : step)),
  });
  const at = { cluster: "prod", hosts: configured() };
  const record = { entries: [], executing: undefined, place: "/journal" };
  const elsewhere = { data: "/var/lib/postgresql" };
  expect(() => refuseOtherPlaces({ ...record, plan: moved({ ...elsewhere, service: "kube-apiserver" }) }, at)).toThrow(
    /has a step swap that speaks of something else/,
  );
  const left: JournalRecord["entries"] = [{ kind: "left", timeMs: 1, host: "h1", step: "swap.h1", message: "gone" }];
  expect(() => refuseOtherPlaces({ ...record, plan: moved(elsewhere), entries: left }, at)).toThrow(/not in/);
  // One that is gone for good, from the configuration too, keeps nobody from going on.
  const two = { ...at, hosts: at.hosts.filter(({ host }) => host.name !== "h1") };
  expect(() => refuseOtherPlaces({ ...record, plan, entries: left }, two)).not.toThrow();
});
