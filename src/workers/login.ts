import { compareSync } from "bcryptjs";
import { readAuth, type AuthUser, type LoginProof } from "../bolt/auth.ts";

/** etcd gives Snapshot, HashKV and changes of members to nobody without it. */
const rootRole = "root";
/** Each step doubles the time; etcd takes 10 unless --bcrypt-cost says otherwise, and this is some ten seconds. */
const highestCost = 16;

/** Whether a database would let this user in, with the role root: by its password, or by a client certificate of that name where there is no password. */
export function proveLogin(path: string, username: string | undefined, password: string | undefined): LoginProof {
  const { revision, users } = readAuth(path);
  const roots = users.flatMap(({ name, roles }) => (roles.includes(rootRole) ? [name] : [])).toSorted();
  const found = users.find(({ name }) => name === username);
  return { verdict: judge(found, password), roots, authRevision: revision };
}

function judge(user: AuthUser | undefined, password: string | undefined): LoginProof["verdict"] {
  if (user === undefined) return "unknown-user";
  if (!user.roles.includes(rootRole)) return "not-root";
  if (password === undefined) return "accepted";
  const { passwordHash } = user;
  if (passwordHash === "") return "no-password";
  if (Number(/^\$2[aby]\$(\d\d)\$/.exec(passwordHash)?.[1] ?? 0) > highestCost) return "too-costly";
  return compareSync(password, passwordHash) ? "accepted" : "wrong-password";
}
