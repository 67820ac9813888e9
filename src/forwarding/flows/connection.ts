/** TLS between the nodes of a site, with its own authority: nodes are named by their certificates, not by addresses. */
import { type PeerCertificate, type Server, type TLSSocket, connect, createServer } from "node:tls";
import { type IpAddress, formatIpPort } from "../../base/addresses.ts";

/** PEM texts: this node's, and the site's authority. */
export interface SiteKeys {
  readonly key: string;
  readonly certificate: string;
  readonly authority: string;
}
export interface PeerAddress {
  readonly node: string;
  readonly address: IpAddress;
  readonly port: number;
}

/** Whoever answers there and is not that node by its certificate is an error of the socket. */
export const dialPeer = (tls: SiteKeys, { node, address, port }: PeerAddress): TLSSocket =>
  connect({
    host: address,
    port,
    key: tls.key,
    cert: tls.certificate,
    ca: tls.authority,
    minVersion: "TLSv1.3",
    checkServerIdentity: (_host, certificate) => {
      const shown = commonName(certificate);
      const at = formatIpPort({ address, port });
      return shown === node ? undefined : new Error(`the certificate at ${at} is that of "${shown}"`);
    },
  });

/**
 * `accept` answers why it does not take a connection, or nothing. Where it does not, or where the certificate is
 * another authority's, the connection ends and `refuse` hears of it.
 */
export function serveSite(
  tls: SiteKeys,
  accept: (node: string, socket: TLSSocket) => string,
  refuse: (node: string, reason: string) => void,
): Server {
  const server = createServer(
    { key: tls.key, cert: tls.certificate, ca: tls.authority, requestCert: true, minVersion: "TLSv1.3" },
    (socket) => {
      const node = commonName(socket.getPeerCertificate());
      const reason = socket.authorized ? accept(node, socket) : "its certificate";
      if (reason === "") return;
      refuse(node, reason);
      socket.destroy();
    },
  );
  return server.on("tlsClientError", (error) => refuse("?", error.message));
}

/** The node that a certificate names; empty where it names none. */
function commonName(certificate: PeerCertificate): string {
  const name: unknown = (certificate.subject as PeerCertificate["subject"] | undefined)?.CN;
  return typeof name === "string" ? name : "";
}
