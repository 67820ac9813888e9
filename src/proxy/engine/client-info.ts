import { type IpAddress, parseIp } from "../../base/addresses.ts";
import { forwardedFor } from "../http1/wire-forwarded.ts";
import type { Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import type { ServicePlan } from "../plan.ts";
import { inPrefixes } from "../routing/policy-match.ts";
import { plainAddress } from "./channel.ts";

/** What is known of a client's connection, worked out once. */
export interface ClientInfo {
  /** The peer of the connection, or what its PROXY header says. */
  readonly address: string;
  readonly port: number;
  readonly https: boolean;
  /** Whether the peer is a trusted proxy, whose X-Forwarded-* are kept. */
  readonly trusted: boolean;
  /** The lines of X-Forwarded-For and -Proto for a peer that is not trusted. */
  readonly lines: string;
  /** `address` without a zone. */
  readonly ip: IpAddress;
  /** Where the client connected to. Asked for only where a PROXY header needs it: it costs a system call. */
  to(): { readonly toAddress: IpAddress; readonly toPort: number };
}

export function clientInfo(
  service: ServicePlan,
  address: string,
  port: number,
  https: boolean,
  to: ClientInfo["to"],
): ClientInfo {
  const plain = plainAddress(address);
  const proto = https ? "https" : "http";
  return {
    address: plain,
    port,
    https,
    trusted: inPrefixes(service.settings.trustedProxies, plain),
    ip: plain.replace(/%.*/, "") as IpAddress,
    to,
    lines: `X-Forwarded-For: ${plain}\r\nX-Forwarded-Proto: ${proto}\r\n`,
  };
}

/** One hop as proxies write it: an address, perhaps with a port, in brackets, or IPv4 mapped into IPv6. */
function hopAddress(text: string): string | undefined {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  const parsed = parseIp(bare);
  return parsed.ok ? plainAddress(parsed.value) : undefined;
}

/**
 * The client's address: behind trusted proxies the last one in X-Forwarded-For, or where there is none in Forwarded
 * (RFC 7239), that is not such a proxy.
 */
export function clientOf(info: ClientInfo, service: ServicePlan, head: Head): string {
  if (!info.trusted) return info.address;
  const listed =
    head.all(Field.xForwardedFor)?.split(",") ?? forwardedFor(head.all(Field.forwarded) ?? "") ?? [];
  let client = info.address;
  // From the nearest hop outwards: what stands left of the first untrusted one may be of its invention.
  for (const one of listed.reverse()) {
    const hop = hopAddress(one.trim());
    if (hop === undefined) break;
    client = hop;
    if (!inPrefixes(service.settings.trustedProxies, hop)) break;
  }
  return client;
}

/** Of the client's own connection, which may end at a trusted proxy. */
export function schemeOf(info: ClientInfo, head: Head): "http" | "https" {
  const told = info.trusted ? head.get(Field.xForwardedProto)?.toLowerCase() : undefined;
  if (told === "http" || told === "https") return told;
  return info.https ? "https" : "http";
}

/** RFC 7239: IPv6 addresses in brackets and quotes. */
const forwardedNode = (address: string): string => (address.includes(":") ? `"[${address}]"` : address);

/** The fields that tell the backend about the client. */
export function forwardedLines(info: ClientInfo, service: ServicePlan, head: Head): string {
  let out = "";
  if (service.xForwarded) {
    const host = head.authority === "" ? "" : `X-Forwarded-Host: ${head.authority}\r\n`;
    if (info.trusted) {
      const before = head.all(Field.xForwardedFor);
      const proto = head.get(Field.xForwardedProto) ?? (info.https ? "https" : "http");
      const givenHost = head.get(Field.xForwardedHost);
      const port = head.get(Field.xForwardedPort);
      out =
        `X-Forwarded-For: ${before === undefined ? "" : `${before}, `}${info.address}\r\n` +
        `X-Forwarded-Proto: ${proto}\r\n` +
        (givenHost === undefined ? host : `X-Forwarded-Host: ${givenHost}\r\n`) +
        (port === undefined ? "" : `X-Forwarded-Port: ${port}\r\n`);
    } else out = info.lines + host;
  }
  if (!service.forwarded) return out;
  const before = info.trusted ? head.all(Field.forwarded) : undefined;
  const element = `for=${forwardedNode(info.address)};host="${head.authority}";proto=${info.https ? "https" : "http"}`;
  return `${out}Forwarded: ${before === undefined ? "" : `${before}, `}${element}\r\n`;
}
