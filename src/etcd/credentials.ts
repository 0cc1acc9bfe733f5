import { connect } from "node:tls";
import type { Socket } from "node:net";
import { CallCredentials, ChannelCredentials } from "@grpc/grpc-js";
import type { Address } from "./address.ts";
import { tlsName } from "./address.ts";
import { describeCertificate } from "./certificate.ts";
import type { Certificate } from "./etcd.ts";
import type { TlsFiles } from "./tls-files.ts";

type Connector = ReturnType<ChannelCredentials["_createSecureConnector"]>;

/**
 * Credentials of one address. Each new connection is made from the TLS files as they are then, so that a rotated
 * certificate needs no new channel; and an IP address is never sent as server name, which grpc-js does (a warning of Node). `saw` is told which certificate
 * the other side showed, after it was accepted.
 */
export function credentialsFor(
  address: Address,
  tls: TlsFiles,
  serverName: string | undefined,
  connectMs: number,
  saw: (certificate: Certificate) => void = () => undefined,
): ChannelCredentials {
  if (!address.secure) return ChannelCredentials.createInsecure();
  return new FileCredentials(address, tls, serverName, connectMs, saw);
}

class FileCredentials extends ChannelCredentials {
  readonly #address: Address;
  readonly #tls: TlsFiles;
  readonly #serverName: string | undefined;
  readonly #connectMs: number;
  readonly #saw: (certificate: Certificate) => void;

  constructor(
    address: Address,
    tls: TlsFiles,
    serverName: string | undefined,
    connectMs: number,
    saw: (certificate: Certificate) => void,
  ) {
    super();
    this.#saw = saw;
    this.#address = address;
    this.#tls = tls;
    this.#serverName = serverName;
    this.#connectMs = connectMs;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(_target: unknown, _options: unknown, calls?: CallCredentials): Connector {
    return {
      connect: async (socket) => ({ socket: await this.#secure(socket), secure: true }),
      waitForReady: async () => {
        await this.#tls.load();
      },
      getCallCredentials: () => calls ?? CallCredentials.createEmpty(),
      destroy: () => undefined,
    };
  }

  async #secure(socket: Socket): Promise<Socket> {
    const { context } = await this.#tls.load();
    const name = tlsName(this.#address, this.#serverName);
    return new Promise((resolve, reject) => {
      const secured = connect({
        socket,
        secureContext: context,
        ALPNProtocols: ["h2"],
        host: this.#address.host,
        ...(name === undefined ? {} : { servername: name }),
      });
      // The listener stays: grpc-js adds its own later, and an error in between must not be an uncaught one.
      secured.on("error", reject);
      const late = setTimeout(() => secured.destroy(new Error("the TLS handshake takes too long")), this.#connectMs);
      secured.once("close", () => {
        clearTimeout(late);
      });
      secured.once("secureConnect", () => {
        clearTimeout(late);
        const shown = secured.getPeerX509Certificate();
        if (shown !== undefined) this.#saw(describeCertificate(shown));
        resolve(secured);
      });
    });
  }
}
