import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { connect, createSecureContext, type SecureContext } from "node:tls";
import type { RouteSettings } from "../../contracts/site.ts";
import type { BackendState } from "./backend.ts";
import { type Channel, type ChannelHandler, StreamChannel } from "./channel.ts";

type UpstreamTls = Exclude<RouteSettings["upstream"]["tls"], false>;

/** One context per settings: making one reads files and parses certificates. */
const contexts = new WeakMap<UpstreamTls, SecureContext>();

/** TLS to a backend; it is ready when the certificate has been checked. */
export function connectTls(
  backend: BackendState,
  settings: UpstreamTls,
  host: string,
  handler: ChannelHandler,
): Channel {
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
  const name = settings.serverName ?? host;
  const socket = connect({
    host: backend.address,
    port: backend.port,
    secureContext: context,
    rejectUnauthorized: settings.verify,
    ALPNProtocols: ["http/1.1"],
    ...(isIP(name) === 0 && name !== "" ? { servername: name } : {}),
  });
  const channel = new StreamChannel(socket, { address: backend.address, port: backend.port }, handler);
  socket.once("secureConnect", () => handler.onConnect());
  return channel;
}
