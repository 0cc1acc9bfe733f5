import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** Where Alertmanager delivers: somebody's pager. */

export interface Told {
  readonly status: "firing" | "resolved";
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Receiver extends AsyncDisposable {
  readonly url: string;
  /** What was delivered, oldest first. */
  readonly told: readonly Told[];
  /** The last that was delivered of an alert with these labels. */
  readonly last: (alertname: string, labels?: Readonly<Record<string, string>>) => Told | undefined;
}

/** Listens on a loopback port of its own, or on that one. */
export async function openReceiver(port = 0): Promise<Receiver> {
  const told: Told[] = [];
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      told.push(...(JSON.parse(body) as { readonly alerts: readonly Told[] }).alerts);
      response.end();
    });
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    told,
    last: (alertname, labels = {}) =>
      told.findLast(
        (one) =>
          one.labels["alertname"] === alertname &&
          Object.entries(labels).every(([name, value]) => one.labels[name] === value),
      ),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
