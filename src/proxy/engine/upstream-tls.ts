import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { connect, createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import type { RouteSettings } from "../../contracts/site.ts";
import type { BackendState } from "./backend.ts";
import { type Channel, type ChannelHandler, StreamChannel } from "./channel.ts";

export type UpstreamTls = Exclude<RouteSettings["upstream"]["tls"], false>;

/** One context per settings: making one reads files and parses certificates. */
const contexts = new WeakMap<UpstreamTls, SecureContext>();

/** TLS to a backend; it is ready when the certificate has been checked. */
export function connectTls(
  backend: BackendState,
  settings: UpstreamTls,
  host: string,
  handler: ChannelHandler,
): Channel {
  const socket = tlsSocket(backend, settings, settings.serverName ?? host, "http/1.1");
  const channel = new StreamChannel(socket, { address: backend.address, port: backend.port }, handler);
  socket.once("secureConnect", () => handler.onConnect());
  return channel;
}

export function tlsSocket(
  backend: BackendState,
  settings: UpstreamTls,
  name: string,
  protocol: "http/1.1" | "h2",
): TLSSocket {
  let context = contexts.get(settings);
  if (context === undefined) {
    const read = (file: string | undefined): Buffer | undefined =>
      file === undefined ? undefined : readFileSync(file);
    context = createSecureContext({
      ca: read(settings.ca),
      cert: read(settings.certificate),
      key: read(settings.key),
    });
    contexts.set(settings, context);
  }
  return connect({
    host: backend.address,
    port: backend.port,
    secureContext: context,
    rejectUnauthorized: settings.verify,
    ALPNProtocols: [protocol],
    ...(isIP(name) === 0 && name !== "" ? { servername: name } : {}),
  });
}
