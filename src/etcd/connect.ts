import { Fault, isFault } from "../faults.ts";
import { parseAddress } from "./address.ts";
import type { Timeouts } from "./channel.ts";
import type { Etcd, MemberAddress, MemberConnection, MemberList } from "./etcd.ts";
import { MemberCalls } from "./member.ts";
import { Session } from "./session.ts";
import type { TlsPaths } from "./tls-files.ts";
import { TlsFiles } from "./tls-files.ts";
import type { Login } from "./token.ts";

export interface EtcdOptions {
  /** `http(s)://host:port`, at least one; members, or one address in front of them. */
  readonly endpoints: readonly string[];
  readonly tls?: TlsPaths | undefined;
  readonly auth?: Login | undefined;
  readonly timeouts?: Partial<Timeouts> | undefined;
}

const defaultTimeouts: Timeouts = { connectMs: 5_000, callMs: 10_000, hashKvMs: 120_000 };

/** Opens nothing yet: connections are made by the first call that needs them, and closed with what is returned. */
export function openEtcd(options: EtcdOptions): Etcd {
  options.endpoints.forEach(parseAddress);
  const timeouts = { ...defaultTimeouts, ...options.timeouts };
  const tls = new TlsFiles(options.tls ?? {});
  const session = new Session({
    tls,
    login: options.auth,
    endpoints: options.endpoints,
    tokenMs: timeouts.callMs,
  });
  const open = new Set<MemberCalls>();
  return {
    members: async (signal) => askMembers(options.endpoints, connect, signal),
    connect,
    certificates: async () => (await tls.load()).certificates,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([...open].map((member) => member[Symbol.asyncDispose]()));
    },
  };

  function connect(address: MemberAddress): MemberCalls {
    const member: MemberCalls = new MemberCalls(address, session, timeouts, () => open.delete(member));
    open.add(member);
    return member;
  }
}

/** How the member list is asked for: a member connection with one call that the contract keeps to itself. */
type Connect = (address: MemberAddress) => MemberConnection & Pick<MemberCalls, "members">;

async function askMembers(endpoints: readonly string[], connect: Connect, signal: AbortSignal): Promise<MemberList> {
  const faults: Fault[] = [];
  for (const url of endpoints) {
    await using member = connect({ name: url, url });
    try {
      return await member.members(signal);
    } catch (error) {
      // A wrong password is wrong everywhere, and more attempts may lock the user out.
      if (!(error instanceof Fault) || isFault(error, "interrupted", "etcd-auth") || signal.aborted) throw error;
      faults.push(error);
    }
  }
  const telling = faults.find(
    (fault): boolean => !isFault(fault, "etcd-unreachable", "etcd-timeout", "etcd-unsupported"),
  );
  if (telling !== undefined) throw telling;
  const [only] = faults;
  if (faults.length === 1 && only !== undefined) throw only;
  throw new Fault("etcd-unreachable", `no endpoint answers: ${faults.map((fault) => fault.message).join("; ")}`, {
    hint: faults.find(({ hint }) => hint !== undefined)?.hint,
    cause: faults[0],
  });
}
