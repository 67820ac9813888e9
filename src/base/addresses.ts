import { type Result, fail, ok } from "./result.ts";

/**
 * Addresses are canonical strings with a brand (RFC 5952 for IPv6): they compare, hash and travel in
 * JSON as they are. `ipBytes` gives the wire form.
 */
declare const ipBrand: unique symbol;
declare const macBrand: unique symbol;
export type IpAddress = string & { readonly [ipBrand]: true };
export type MacAddress = string & { readonly [macBrand]: true };
export type Family = 4 | 6;

export interface IpPort {
  readonly address: IpAddress;
  /** 1..65535 */
  readonly port: number;
}

/** A prefix such as 10.0.0.0/8; `length` is 0..32 or 0..128. Host bits are zero. */
export interface IpPrefix {
  readonly address: IpAddress;
  readonly length: number;
}

export const ipFamily = (ip: IpAddress): Family => (ip.includes(":") ? 6 : 4);

function parseIpv4Bytes(text: string): Uint8Array | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = match[i + 1] ?? "";
    const value = Number(part);
    // A leading zero is octal to some tools and decimal to others: refused.
    if (value > 255 || (part.length > 1 && part.startsWith("0"))) return undefined;
    bytes[i] = value;
  }
  return bytes;
}

function parseIpv6Bytes(text: string): Uint8Array | undefined {
  let body = text;
  let tail: Uint8Array | undefined;
  const lastColon = body.lastIndexOf(":");
  if (body.includes(".")) {
    tail = parseIpv4Bytes(body.slice(lastColon + 1));
    if (!tail || lastColon < 0) return undefined;
    body = body.slice(0, lastColon + 1) + "0:0";
  }
  const halves = body.split("::");
  if (halves.length > 2) return undefined;
  const groups = (half: string | undefined): string[] =>
    half === undefined || half === "" ? [] : half.split(":");
  const head = groups(halves[0]);
  const rest = groups(halves[1]);
  const missing = 8 - head.length - rest.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const all = [...head, ...Array<string>(Math.max(0, missing)).fill("0"), ...rest];
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 8; i++) {
    const group = all[i] ?? "";
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
    const value = Number.parseInt(group, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 255;
  }
  if (tail) bytes.set(tail, 12);
  return bytes;
}

function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  // RFC 5952, 4.2: the longest run of zeros, two groups or more, the first of equals.
  let bestAt = -1;
  let bestLength = 1;
  for (let i = 0; i < 8;) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > bestLength) [bestAt, bestLength] = [i, j - i];
    i = j + 1;
  }
  const text = (part: number[]): string => part.map((g) => g.toString(16)).join(":");
  if (bestAt < 0) return text(groups);
  return `${text(groups.slice(0, bestAt))}::${text(groups.slice(bestAt + bestLength))}`;
}

/** 4 or 16 bytes to the canonical text; other lengths are a bug of the caller. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return bytes.join(".") as IpAddress;
  if (bytes.length === 16) return formatIpv6(bytes) as IpAddress;
  throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
}

export function parseIp(text: string): Result<IpAddress> {
  const bytes = text.includes(":") ? parseIpv6Bytes(text) : parseIpv4Bytes(text);
  return bytes ? ok(ipFromBytes(bytes)) : fail(`"${text}" is not an IPv4 or IPv6 address`);
}

/** For constants and tests: throws where `parseIp` fails. */
export function ip(text: string): IpAddress {
  const parsed = parseIp(text);
  if (!parsed.ok) throw new RangeError(parsed.error);
  return parsed.value;
}

/** The wire form: 4 bytes for IPv4, 16 for IPv6. */
export function ipBytes(address: IpAddress): Uint8Array {
  const bytes = address.includes(":") ? parseIpv6Bytes(address) : parseIpv4Bytes(address);
  if (!bytes) throw new RangeError(`not a canonical address: ${address}`);
  return bytes;
}

/** Unsigned comparison of the wire forms, IPv4 before IPv6: negative, zero or positive. */
export function compareIp(a: IpAddress, b: IpAddress): number {
  const x = ipBytes(a);
  const y = ipBytes(b);
  if (x.length !== y.length) return x.length - y.length;
  for (let i = 0; i < x.length; i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export const isLinkLocal6 = (address: IpAddress): boolean => {
  if (ipFamily(address) !== 6) return false;
  const bytes = ipBytes(address);
  return bytes[0] === 0xfe && ((bytes[1] ?? 0) & 0xc0) === 0x80;
};

export function isMulticast(address: IpAddress): boolean {
  const first = ipBytes(address)[0] ?? 0;
  return ipFamily(address) === 4 ? first >= 224 && first < 240 : first === 0xff;
}

export function parsePrefix(text: string): Result<IpPrefix> {
  const slash = text.indexOf("/");
  const parsed = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (!parsed.ok) return fail(`"${text}" is not an address prefix such as 10.0.0.0/8`);
  const width = ipFamily(parsed.value) === 4 ? 32 : 128;
  const lengthText = slash < 0 ? String(width) : text.slice(slash + 1);
  const length = Number(lengthText);
  if (!/^\d{1,3}$/.test(lengthText) || length > width)
    return fail(`"${text}": the prefix length is 0..${width}`);
  const bytes = ipBytes(parsed.value);
  for (let bit = length; bit < width; bit++) {
    const mask = 0x80 >> (bit & 7);
    if (((bytes[bit >> 3] ?? 0) & mask) !== 0) return fail(`"${text}" has bits set beyond its length`);
  }
  return ok({ address: parsed.value, length });
}

export function prefixContains(prefix: IpPrefix, address: IpAddress): boolean {
  const a = ipBytes(prefix.address);
  const b = ipBytes(address);
  if (a.length !== b.length) return false;
  const whole = prefix.length >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = prefix.length & 7;
  return rest === 0 || (((a[whole] ?? 0) ^ (b[whole] ?? 0)) & 0xff) >> (8 - rest) === 0;
}

/** `10.0.0.1:80` or `[2001:db8::1]:80`. */
export const formatIpPort = (at: IpPort): string =>
  ipFamily(at.address) === 6 ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`;

export function parseIpPort(text: string): Result<IpPort> {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const parsed = match ? parseIp(match[1] ?? match[2] ?? "") : undefined;
  const port = Number(match?.[3]);
  if (!parsed?.ok || (match?.[1] !== undefined && ipFamily(parsed.value) !== 6)) {
    return fail(`"${text}" is not address:port, such as 10.0.0.1:80 or [2001:db8::1]:80`);
  }
  if (port < 1 || port > 65535) return fail(`"${text}": a port is 1..65535`);
  return ok({ address: parsed.value, port });
}

export function parseMac(text: string): Result<MacAddress> {
  return /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(text)
    ? ok(text.toLowerCase() as MacAddress)
    : fail(`"${text}" is not a MAC address such as 02:00:00:00:00:01`);
}

export const macBytes = (mac: MacAddress): Uint8Array =>
  Uint8Array.from(mac.split(":"), (part) => Number.parseInt(part, 16));

export const macFromBytes = (bytes: Uint8Array): MacAddress =>
  Array.from(bytes.subarray(0, 6), (b) => b.toString(16).padStart(2, "0")).join(":") as MacAddress;
