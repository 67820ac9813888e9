/** The channel's TLS connections: who is a peer, and who is refused. */
import { type Server, type TLSSocket, connect, createServer } from "node:tls";
import { type IpAddress, formatIpPort } from "../../base/addresses.ts";
import { type SiteKeys, dialNode, listenForNodes, nodeOf } from "../../linux/site-tls.ts";

export interface PeerAddress {
  readonly node: string;
  readonly address: IpAddress;
  readonly port: number;
}

/** Whoever answers there and is not that node by its certificate is an error of the socket. */
export const dialPeer = (tls: SiteKeys, { node, address, port }: PeerAddress): TLSSocket =>
  connect({ host: address, port, ...dialNode(tls, node, formatIpPort({ address, port })) });

/**
 * `accept` answers why it does not take a connection, or nothing. Where it does not, or where the certificate is
 * another authority's, the connection ends and `refuse` hears of it.
 */
export function serveSite(
  tls: SiteKeys,
  accept: (node: string, socket: TLSSocket) => string,
  refuse: (node: string, reason: string) => void,
): Server {
  const server = createServer(listenForNodes(tls), (socket) => {
    const node = nodeOf(socket.getPeerCertificate());
    const reason = socket.authorized ? accept(node, socket) : "its certificate";
    if (reason === "") return;
    refuse(node, reason);
    socket.destroy();
  });
  return server.on("tlsClientError", (error) => refuse("?", error.message));
}
