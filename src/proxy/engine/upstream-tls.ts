import { readFileSync } from "node:fs";
import { connect as connectTcp, isIP } from "node:net";
import { connect, createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { RouteSettings } from "../../contracts/site.ts";
import type { BackendState } from "./backend.ts";
import { type Channel, type ChannelHandler, StreamChannel } from "./channel.ts";

export type UpstreamTls = Exclude<RouteSettings["upstream"]["tls"], false>;

/** One context per settings: making one reads files and parses certificates. */
const contexts = new WeakMap<UpstreamTls, { readonly context: SecureContext; readonly number: number }>();
let made = 0;

/** Reads what TLS to backends needs, before the first request wants it. Throws OperationalError. */
export function prepareTls(settings: UpstreamTls): { context: SecureContext; number: number } {
  const known = contexts.get(settings);
  if (known !== undefined) return known;
  const read = (file: string | undefined): Buffer | undefined =>
    file === undefined ? undefined : readFileSync(file);
  try {
    const context = createSecureContext({
      ca: read(settings.ca),
      cert: read(settings.certificate),
      key: read(settings.key),
    });
    const prepared = { context, number: ++made };
    contexts.set(settings, prepared);
    return prepared;
  } catch (error) {
    const files = [settings.ca, settings.certificate, settings.key].filter((file) => file !== undefined);
    throw new OperationalError("FILE_UNREADABLE", `upstream.tls (${files.join(", ")}): ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Connections with the same key go the same way: none in the clear, or to another name, is taken for one of them. */
export const tlsKey = (settings: UpstreamTls | false, host: string): string =>
  settings === false ? "" : `${prepareTls(settings).number} ${settings.serverName ?? host}`;

/** The name came from the client, and the backend's certificate does not have it: which says nothing of the backend. */
export const misnamed = (settings: UpstreamTls | false, error: string | undefined): boolean =>
  settings !== false && settings.serverName === undefined && error === "ERR_TLS_CERT_ALTNAME_INVALID";

/** TLS to a backend; it is ready when the certificate has been checked. */
export function connectTls(
  backend: BackendState,
  settings: UpstreamTls,
  host: string,
  handler: ChannelHandler,
  before: Uint8Array,
): Channel {
  const socket = tlsSocket(backend, settings, settings.serverName ?? host, "http/1.1", before);
  const channel = new StreamChannel(socket, { address: backend.address, port: backend.port }, handler);
  socket.once("secureConnect", () => handler.onConnect());
  return channel;
}

export function tlsSocket(
  backend: BackendState,
  settings: UpstreamTls,
  name: string,
  protocol: "http/1.1" | "h2",
  /** Goes out before TLS begins: a PROXY header. */
  before?: Uint8Array,
): TLSSocket {
  const to = { host: backend.address, port: backend.port };
  const socket = before === undefined || before.length === 0 ? undefined : connectTcp(to);
  if (socket !== undefined) socket.write(before!);
  return connect({
    ...(socket === undefined ? to : { socket }),
    secureContext: prepareTls(settings).context,
    rejectUnauthorized: settings.verify,
    ALPNProtocols: [protocol],
    ...(isIP(name) === 0 && name !== "" ? { servername: name } : {}),
  });
}
