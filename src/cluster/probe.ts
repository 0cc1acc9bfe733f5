import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import type { Certificate, Etcd, MemberAddress, MemberConnection, MemberStatus, ServerMetrics } from "../etcd/etcd.ts";
import type { ProbeMethod } from "../events.ts";
import { abortFault, isFault, type Fault } from "../faults.ts";
import { checkMember } from "./observe.ts";

/** What one member answered when it was asked for itself. */
export interface MemberProbe {
  /** Undefined: it did not answer, and nothing else was asked. */
  readonly status: MemberStatus | undefined;
  /** How long each kind of call took; what was not asked is missing. */
  readonly calls: readonly ProbedCall[];
  /** Known also of a member whose certificate is refused; undefined without TLS, and where nobody answers. */
  readonly certificate: Certificate | undefined;
  /** Undefined where etcd's own metrics cannot be read. */
  readonly server: ServerMetrics | undefined;
}

export type ProbedCall =
  | { readonly method: ProbeMethod; readonly durationMs: number }
  | { readonly method: ProbeMethod; readonly durationMs: undefined; readonly fault: Fault };

export interface ProbeOptions {
  /** Who must answer there. */
  readonly expected: { readonly clusterId: bigint; readonly memberId: bigint };
  /** For each of a handful of calls. */
  readonly callTimeoutMs: number;
  /** As ObserveOptions has it. */
  readonly withoutReads?: boolean;
}

/**
 * Asks one member for what tells how it does, over a connection of its own: a handful of small calls one after another, each bounded. Nothing is written,
 * and no other member is waited for but by the linearizable read. Rejects only when the signal is aborted.
 */
export async function probeMember(
  etcd: Etcd,
  address: MemberAddress,
  clock: Clock,
  options: ProbeOptions,
  signal: AbortSignal,
): Promise<MemberProbe> {
  await using connection = etcd.connect(address);
  const bounded = async <T>(ask: (connection: MemberConnection, signal: AbortSignal) => Promise<T>): Promise<T> => {
    using deadline = withDeadline(signal, options.callTimeoutMs, `${address.name} did not answer`);
    return await ask(connection, deadline.signal);
  };
  const time = async (
    method: ProbeMethod,
    ask: (connection: MemberConnection, signal: AbortSignal) => Promise<unknown>,
  ): Promise<ProbedCall> => {
    const startedMs = clock.elapsed();
    try {
      await bounded(ask);
      return { method, durationMs: clock.elapsed() - startedMs };
    } catch (error) {
      return { method, durationMs: undefined, fault: expectedFault(error, signal) };
    }
  };
  const seen = async <T>(
    ask: (connection: MemberConnection, signal: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> => {
    try {
      return await bounded(ask);
    } catch (error) {
      expectedFault(error, signal);
      return undefined;
    }
  };

  let status: MemberStatus;
  try {
    // The first call pays for the connection and says who answers; what is measured comes after it.
    status = await bounded((member, deadline) => member.status(deadline));
    checkMember(address, options.expected, status);
  } catch (error) {
    const fault = expectedFault(error, signal);
    // One that is expired, or another's, is worth knowing, since nothing else will be heard of that member.
    const certificate =
      fault.code === "etcd-tls" ? await seen((member, deadline) => member.serverCertificate(deadline)) : undefined;
    const calls = [{ method: "status", durationMs: undefined, fault } as const];
    return { status: undefined, calls, certificate, server: undefined };
  }
  const calls = [await time("status", (member, deadline) => member.status(deadline))];
  const reads = options.withoutReads !== true;
  if (reads) calls.push(await time("range_serializable", (member, deadline) => member.serializableRead(deadline)));
  // A learner refuses it.
  if (reads && !status.learner)
    calls.push(await time("range_linearizable", (member, deadline) => member.linearizableRead(deadline)));
  return {
    status,
    calls,
    certificate: await seen((member, deadline) => member.serverCertificate(deadline)),
    // Last, since writing its page costs a member some milliseconds.
    server: await seen((member, deadline) => member.serverMetrics(deadline)),
  };
}

/** What went wrong with the member; throws when the end is what went wrong, or we are. */
function expectedFault(error: unknown, signal: AbortSignal): Fault {
  if (signal.aborted) throw abortFault(signal);
  if (!isFault(error)) throw error;
  return error;
}
