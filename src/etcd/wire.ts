import { fromJSON } from "@grpc/proto-loader";
import type { MethodDefinition } from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { protoText } from "./proto.ts";

/** One unary method: its path and how its messages become bytes and values. 64-bit numbers are decimal strings here. */
export interface Method<Question, Answer> {
  readonly path: string;
  readonly name: string;
  readonly encode: (question: Question) => Buffer;
  readonly decode: (bytes: Buffer) => Answer;
}

export interface Header {
  readonly clusterId: string;
  readonly memberId: string;
  readonly revision: string;
  readonly raftTerm: string;
}

/** What every answer of etcd carries; null where a server (that is no etcd) leaves it out. */
interface Headed {
  readonly header: Header | null;
}

export interface StatusAnswer extends Headed {
  readonly version: string;
  readonly dbSize: string;
  readonly leader: string;
  readonly raftIndex: string;
  readonly raftTerm: string;
  readonly raftAppliedIndex: string;
  readonly errors: readonly string[];
  readonly dbSizeInUse: string;
  readonly isLearner: boolean;
  readonly storageVersion: string;
  readonly dbSizeQuota: string;
}

export interface MemberListAnswer extends Headed {
  readonly members: readonly {
    readonly ID: string;
    readonly name: string;
    readonly peerURLs: readonly string[];
    readonly clientURLs: readonly string[];
    readonly isLearner: boolean;
  }[];
}

export interface MemberAddAnswer extends Headed {
  readonly member: MemberListAnswer["members"][number] | null;
}

export interface AlarmAnswer extends Headed {
  /** An alarm that this program does not know is a number. */
  readonly alarms: readonly { readonly memberID: string; readonly alarm: string | number }[];
}

export interface HashKvAnswer extends Headed {
  readonly hash: number;
  readonly compactRevision: string;
  readonly hashRevision: string;
}

export interface AuthStatusAnswer extends Headed {
  readonly enabled: boolean;
  readonly authRevision: string;
}

const definitions = fromJSON(protobuf.parse(protoText).root.toJSON(), {
  longs: String,
  enums: String,
  defaults: true,
  arrays: true,
});

export const rangeMethod = method<{ key: Buffer; countOnly: boolean; serializable: boolean }, Headed>("KV", "Range");
export const memberListMethod = method<{ linearizable: boolean }, MemberListAnswer>("Cluster", "MemberList");
export const memberAddMethod = method<{ peerURLs: string[]; isLearner: boolean }, MemberAddAnswer>(
  "Cluster",
  "MemberAdd",
);
export const memberRemoveMethod = method<{ ID: string }, MemberListAnswer>("Cluster", "MemberRemove");
export const memberPromoteMethod = method<{ ID: string }, MemberListAnswer>("Cluster", "MemberPromote");
export const alarmMethod = method<
  { action: "GET" } | { action: "DEACTIVATE"; memberID: string; alarm: string },
  AlarmAnswer
>("Maintenance", "Alarm");
export const downgradeMethod = method<{ action: "CANCEL" }, Headed>("Maintenance", "Downgrade");
export const statusMethod = method<object, StatusAnswer>("Maintenance", "Status");
export const hashKvMethod = method<{ revision: string }, HashKvAnswer>("Maintenance", "HashKV");
export const authStatusMethod = method<object, AuthStatusAnswer>("Auth", "AuthStatus");
export const snapshotPath = "/etcdserverpb.Maintenance/Snapshot";

/** The types above are believed from here on: `defaults` and `arrays` make the decoder give every field its declared type. */
function method<Question extends object, Answer extends object>(
  service: string,
  name: string,
): Method<Question, Answer> {
  const found = definitions[`etcdserverpb.${service}`] as Record<string, unknown>;
  const definition = found[name] as MethodDefinition<Question, Answer> | undefined;
  if (definition === undefined) throw new Error(`etcd.proto has no ${service}.${name}`);
  return {
    path: definition.path,
    name,
    encode: definition.requestSerialize,
    decode: definition.responseDeserialize,
  };
}
