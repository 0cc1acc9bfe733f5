import { Fault } from "../faults.ts";
import { adoptHistory, findForeignHistory } from "../snapshot/adopt.ts";
import { printJson, type CommonOptions, type Environment } from "./tools.ts";

export interface AdoptOptions extends CommonOptions {
  readonly confirmCluster?: string;
}

/** Shows why the live cluster's history is another one, and accepts it when the cluster's name is typed. */
export async function adoptCommand(environment: Environment, options: AdoptOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const listener = environment.listen(console);
  try {
    const { name } = tools.loaded.config.cluster;
    const deps = await tools.backup(listener.emit);
    const found = await findForeignHistory(deps, signal);
    listener.close();
    if (found === undefined) {
      if (options.json === true)
        printJson(console, { schema: "etcd-lifeboat/adopt/v1", adopted: false, lineage: null, seen: null });
      else console.out("nothing to adopt: the cluster continues the repository's history\n");
      return 0;
    }
    if (options.confirmCluster !== name) {
      throw new Fault("lineage-foreign", `not adopted: ${found.seen}`, {
        hint: `if this is right, accept it with: etcd-lifeboat adopt --confirm-cluster ${name}`,
      });
    }
    const lineage = await adoptHistory(deps, found, signal);
    if (options.json === true) {
      printJson(console, {
        schema: "etcd-lifeboat/adopt/v1",
        adopted: true,
        lineage: lineage.lineage,
        seen: found.seen,
      });
    } else {
      console.out(`${lineage.lineage}\n`);
      console.err(`adopted as a new lineage after ${found.parent.lineage}: ${found.seen}\n`);
    }
    return 0;
  } finally {
    listener.close();
  }
}
