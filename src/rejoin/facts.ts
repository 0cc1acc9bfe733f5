import type { HostFacts } from "../restore/facts.ts";

/** What is seen before one member is joined anew: plain values, so that the plan is a pure function of them. */
export interface RejoinFacts {
  readonly cluster: string;
  /** RFC 3339; everything below was seen around it. */
  readonly now: string;
  readonly clusterId: bigint;
  readonly quorum: boolean;
  readonly members: readonly SeenMember[];
  /** The host that carries the member; undefined when none of the configuration does. */
  readonly host: HostFacts | undefined;
  /** How its etcd is told to join, in words, or why it cannot be. */
  readonly joining: { readonly how: string } | { readonly fault: string; readonly hint: string };
  /** The WAL directory of its own is a mount point, or there is none. */
  readonly walIsMountPoint: boolean;
}

export interface SeenMember {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly learner: boolean;
  readonly up: boolean;
  /** Server version such as `3.6.16`; undefined where it is not up. */
  readonly version: string | undefined;
}

/** What the operator asked for. */
export interface RejoinRequest {
  /** ULID of the operation. */
  readonly id: string;
  readonly member: string;
  readonly acceptRebootRisk: boolean;
  /** ULID of the repository whose lock is held meanwhile; undefined where there is none. */
  readonly repository: string | undefined;
}
