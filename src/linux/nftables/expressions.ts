/** Small words to write rules with. Registers count in words of 4 bytes, 0..15. */
import { type Family, type IpAddress, ipBytes, ipFamily } from "../../base/addresses.ts";
import { type Expression, type NftElement, type NftSet, elementKey } from "./model.ts";

export const u16Bytes = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 255);
/** As a register holds it: host order, which is little endian on x86-64 and arm64. */
export function hostU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
export const readHostU32 = (bytes: Uint8Array): number =>
  bytes.length < 4 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

/** Fields of a concatenation, each padded to a multiple of 4 bytes. */
export function concat(...fields: readonly Uint8Array[]): Uint8Array {
  const length = fields.reduce((sum, field) => sum + ((field.length + 3) & ~3), 0);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const field of fields) {
    bytes.set(field, at);
    at += (field.length + 3) & ~3;
  }
  return bytes;
}

export const elementMap = (elements: readonly NftElement[]): NftSet["elements"] =>
  new Map(elements.map((element) => [elementKey(element), element]));

export const addressElements = (addresses: readonly IpAddress[], family: Family): NftSet["elements"] =>
  elementMap(addresses.filter((ip) => ipFamily(ip) === family).map((ip) => ({ key: ipBytes(ip) })));

export const immediate = (register: number, value: Uint8Array): Expression => ({
  kind: "immediate",
  register,
  value,
});
export const verdict = (code: "accept" | "drop" | "return"): Expression => ({
  kind: "verdict",
  verdict: { code },
});
export const payload = (
  base: "link" | "network" | "transport",
  offset: number,
  length: number,
  register: number,
): Expression => ({ kind: "payload", base, offset, length, register });
export const isEqual = (register: number, value: Uint8Array): Expression => ({
  kind: "cmp",
  register,
  op: "eq",
  value,
});
export const lookup = (set: string, register: number, into?: number | "verdict"): Expression => ({
  kind: "lookup",
  set,
  register,
  ...(into === undefined ? {} : { into }),
});
/** Goes on where the key is not in the set. */
export const notIn = (set: string, register: number): Expression => ({
  kind: "lookup",
  set,
  register,
  negate: true,
});
export const sourceAddress = (family: Family, register: number): Expression =>
  family === 4 ? payload("network", 12, 4, register) : payload("network", 8, 16, register);
export const destinationAddress = (family: Family, register: number): Expression =>
  family === 4 ? payload("network", 16, 4, register) : payload("network", 24, 16, register);
