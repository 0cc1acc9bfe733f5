import { isMap, isScalar, isSeq, parseDocument, type YAMLSeq } from "yaml";
import { Fault } from "../faults.ts";

/**
 * The manifest of an etcd pod with the flags of a member that joins, as kubeadm's own join writes them; everything else, comments too, stays as it is. `service-unjoinable` where the
 * program is started by a shell, or its flags stand in the environment.
 */
export function withJoinFlags(text: string, initialCluster: string): string {
  const document = parseDocument(text);
  const containers = document.getIn(["spec", "containers"]);
  const flags = isSeq(containers)
    ? containers.items.flatMap((container) => {
        const found = isMap(container) ? [container.get("command"), container.get("args")] : [];
        return found.filter((words) => isSeq(words));
      })
    : [];
  const words = flags.find((list) => list.items.some((item) => flagName(item) === "name")) ?? flags[0];
  const program = flags[0]?.items[0];
  const shell = isScalar(program) && /(^|\/)(sh|bash|dash|ash|env)$/.test(String(program.value));
  if (words === undefined || shell || /ETCD_INITIAL_CLUSTER/.test(text)) {
    throw new Fault("service-unjoinable", "the manifest does not give etcd its flags one by one", {
      hint: "write --initial-cluster and --initial-cluster-state as arguments of their own, as kubeadm does",
    });
  }
  setFlag(words, "initial-cluster", initialCluster);
  setFlag(words, "initial-cluster-state", "existing");
  return document.toString({ lineWidth: 0 });
}

function flagName(item: unknown): string | undefined {
  return isScalar(item) ? /^--?([a-z-]+)(?:=|$)/.exec(String(item.value))?.[1] : undefined;
}

function setFlag(words: YAMLSeq, flag: string, value: string): void {
  const at = words.items.findIndex((item) => flagName(item) === flag);
  const item = words.items[at];
  if (at < 0) return words.add(`--${flag}=${value}`);
  // `--flag=value`, or `--flag` and its value in the next one.
  if (isScalar(item) && String(item.value).includes("=")) words.set(at, `--${flag}=${value}`);
  else words.set(at + 1, value);
}
