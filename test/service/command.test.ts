import { expect, test } from "vitest";
import { openCommandService } from "../../src/service/command.ts";
import { openSystemdService } from "../../src/service/systemd.ts";
import { redactWhole } from "../../src/telemetry/redact.ts";
import { fakeHost } from "../fakes/host.ts";

const never = new AbortController().signal;
const secret = "hunter2hunter2";

test("what a command or systemctl prints when it fails, and its arguments, are told without secrets", async () => {
  const host = fakeHost("h1");
  for (const program of ["/opt/service", "systemctl"])
    host.programs.set(program, () => ({ status: 1, stderr: `cannot log in with password=${secret} today` }));
  const command = openCommandService(host, {
    name: "etcd",
    role: "etcd",
    start: ["/opt/service", "start", `--password=${secret}`],
    stop: ["/opt/service", "stop", `--password=${secret}`],
    probe: ["/opt/service", "status"],
    timeoutMs: 1000,
    stateDirectory: "/var/lib/ours",
    redact: redactWhole,
  });
  const systemd = openSystemdService(host, { name: "etcd", role: "etcd", unit: "etcd.service", redact: redactWhole });
  const acts = [
    async () => await command.start(never),
    async () => await command.stop(never),
    async () => void (await command.state(never)),
    async () => await systemd.stop(never),
    async () => void (await systemd.state(never)),
  ];
  for (const act of acts) {
    const fault: unknown = await act().then(
      () => undefined,
      (error: unknown) => error,
    );
    const { message, hint } = fault as { readonly message: string; readonly hint?: string };
    expect(`${message} ${hint ?? ""}`).toMatch(/cannot log in/);
    expect(`${message} ${hint ?? ""}`).not.toContain(secret);
  }
});
