import { type IpAddress, ipBytes, ipFromBytes, parseIp } from "../../base/addresses.ts";

/** Both ends of a client's connection, as the first proxy saw them. */
export interface Endpoints {
  readonly address: IpAddress;
  readonly port: number;
  readonly toAddress: IpAddress;
  readonly toPort: number;
}

/** What the first bytes of a connection say in the PROXY protocol (HAProxy's proxy-protocol.txt). */
export type ProxyHeaderReading =
  | { readonly kind: "more" }
  /** `of` is absent where the proxy speaks for itself (LOCAL, UNKNOWN): then the connection's own ends count. */
  | { readonly kind: "header"; readonly length: number; readonly of?: Endpoints }
  | { readonly kind: "fault"; readonly reason: ProxyHeaderFault };

type ProxyHeaderFault = "no-proxy-header" | "proxy-header-broken" | "proxy-header-too-large";

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const V1 = Array.from("PROXY ", (c) => c.charCodeAt(0));
/** The longest line of version 1, CRLF included. */
const V1_MOST = 107;
/** Addresses and what follows them; larger ones hold certificates that nobody here reads. */
export const PROXY_HEADER_MOST = 16 + 4096;

const MORE: ProxyHeaderReading = { kind: "more" };
const fault = (reason: ProxyHeaderFault): ProxyHeaderReading => ({ kind: "fault", reason });

function begins(b: Uint8Array, with_: readonly number[]): boolean | undefined {
  for (let i = 0; i < with_.length; i++) {
    if (i >= b.length) return undefined;
    if (b[i] !== with_[i]) return false;
  }
  return true;
}

export function readProxyHeader(b: Uint8Array): ProxyHeaderReading {
  const second = begins(b, SIGNATURE);
  if (second === true) return readV2(b);
  const first = begins(b, V1);
  if (first === true) return readV1(b);
  return first === false && second === false ? fault("no-proxy-header") : MORE;
}

function readV1(b: Uint8Array): ProxyHeaderReading {
  let line = "";
  for (let i = 0; ; i++) {
    if (i >= V1_MOST) return fault("proxy-header-too-large");
    if (i >= b.length) return MORE;
    const c = b[i]!;
    if (c === 0x0a) {
      if (!line.endsWith("\r")) return fault("proxy-header-broken");
      return understandV1(line.slice(0, -1), i + 1);
    }
    if (line.endsWith("\r") || (c < 0x20 && c !== 0x0d) || c > 0x7e) return fault("proxy-header-broken");
    line += String.fromCharCode(c);
  }
}

function understandV1(line: string, length: number): ProxyHeaderReading {
  const [, family, from = "", to = "", fromPort = "", toPort = "", ...more] = line.split(" ");
  if (family === "UNKNOWN") return { kind: "header", length };
  if ((family !== "TCP4" && family !== "TCP6") || more.length > 0) return fault("proxy-header-broken");
  const address = parseIp(from);
  const toAddress = parseIp(to);
  const ports = [fromPort, toPort].map((text) => (/^(0|[1-9]\d{0,4})$/.test(text) ? Number(text) : 65_536));
  if (!address.ok || !toAddress.ok || ports.some((port) => port > 65_535))
    return fault("proxy-header-broken");
  const six = family === "TCP6";
  if (from.includes(":") !== six || to.includes(":") !== six) return fault("proxy-header-broken");
  return {
    kind: "header",
    length,
    of: { address: address.value, port: ports[0]!, toAddress: toAddress.value, toPort: ports[1]! },
  };
}

function readV2(b: Uint8Array): ProxyHeaderReading {
  if (b.length < 16) return MORE;
  const command = b[12]!;
  const family = b[13]!;
  const length = 16 + b[14]! * 256 + b[15]!;
  if (command !== 0x20 && command !== 0x21) return fault("proxy-header-broken");
  if (length > PROXY_HEADER_MOST) return fault("proxy-header-too-large");
  if (b.length < length) return MORE;
  if (command === 0x20) return { kind: "header", length };
  const size = family === 0x11 ? 4 : family === 0x21 ? 16 : 0;
  // Unix sockets and what nobody specified: the connection's own ends count.
  if (size === 0) return { kind: "header", length };
  if (length < 16 + 2 * size + 4) return fault("proxy-header-broken");
  const port = (at: number): number => b[at]! * 256 + b[at + 1]!;
  const ports = 16 + 2 * size;
  return {
    kind: "header",
    length,
    of: {
      address: ipFromBytes(b.subarray(16, 16 + size)),
      port: port(ports),
      toAddress: ipFromBytes(b.subarray(16 + size, ports)),
      toPort: port(ports + 2),
    },
  };
}

/** The header for a backend. Both addresses must be of one family; where they are not, it says so (UNKNOWN, LOCAL). */
export function writeProxyHeader(version: 1 | 2, of: Endpoints): Uint8Array {
  const from = ipBytes(of.address);
  const to = ipBytes(of.toAddress);
  const alike = from.length === to.length;
  if (version === 1) {
    const text = alike
      ? `PROXY TCP${from.length === 4 ? 4 : 6} ${of.address} ${of.toAddress} ${of.port} ${of.toPort}\r\n`
      : "PROXY UNKNOWN\r\n";
    return Uint8Array.from(text, (c) => c.charCodeAt(0));
  }
  if (!alike) return Uint8Array.from([...SIGNATURE, 0x20, 0, 0, 0]);
  const size = from.length * 2 + 4;
  return Uint8Array.from([
    ...SIGNATURE,
    0x21,
    from.length === 4 ? 0x11 : 0x21,
    size >> 8,
    size & 255,
    ...from,
    ...to,
    of.port >> 8,
    of.port & 255,
    of.toPort >> 8,
    of.toPort & 255,
  ]);
}
