/**
 * Classic BPF programs (linux/filter.h) for packet sockets without link-layer header: the kernel drops what
 * concerns none of the addresses asked for, so that a busy LAN does not wake the process.
 */
import { type IpAddress, ipBytes, ipFamily } from "../base/addresses.ts";
import { IPPROTO } from "./constants.ts";

const LOAD_WORD = 0x20;
const LOAD_BYTE = 0x30;
const JUMP_EQUAL = 0x15;
const RETURN = 0x06;
const WHOLE_PACKET = 0xffff;

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

function assemble(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  program.forEach(([code, ifTrue, ifFalse, value], i) => {
    view.setUint16(8 * i, code, true);
    view.setUint8(8 * i + 2, ifTrue);
    view.setUint8(8 * i + 3, ifFalse);
    view.setUint32(8 * i + 4, value, true);
  });
  return bytes;
}

const accept: Instruction = [RETURN, 0, 0, WHOLE_PACKET];
const refuse: Instruction = [RETURN, 0, 0, 0];

/** The 32 bits from `at` on: all of an IPv4 address, the end of an IPv6 one (checked whole by the reader). */
function word(address: IpAddress): number {
  const bytes = ipBytes(address);
  return new DataView(bytes.buffer).getUint32(bytes.length - 4);
}

/** ARP packets whose sender is one of the addresses, and probes for one of them (sender 0.0.0.0). */
export function arpFilter(addresses: readonly IpAddress[]): Uint8Array {
  const words = addresses.filter((address) => ipFamily(address) === 4).map(word);
  return assemble([
    [LOAD_WORD, 0, 0, 14],
    ...words.flatMap((value): Instruction[] => [[JUMP_EQUAL, 0, 1, value], accept]),
    [JUMP_EQUAL, 1, 0, 0],
    refuse,
    [LOAD_WORD, 0, 0, 24],
    ...words.flatMap((value): Instruction[] => [[JUMP_EQUAL, 0, 1, value], accept]),
    refuse,
  ]);
}

/** Neighbour solicitations and advertisements for one of the addresses. */
export function ndFilter(addresses: readonly IpAddress[]): Uint8Array {
  const words = addresses.filter((address) => ipFamily(address) === 6).map(word);
  return assemble([
    [LOAD_BYTE, 0, 0, 6],
    [JUMP_EQUAL, 1, 0, IPPROTO.ICMPV6],
    refuse,
    [LOAD_BYTE, 0, 0, 40],
    [JUMP_EQUAL, 2, 0, 135],
    [JUMP_EQUAL, 1, 0, 136],
    refuse,
    [LOAD_WORD, 0, 0, 60],
    ...words.flatMap((value): Instruction[] => [[JUMP_EQUAL, 0, 1, value], accept]),
    refuse,
  ]);
}
