/**
 * Classic BPF programs (linux/filter.h), and those for packet sockets without link-layer header: the kernel drops
 * what concerns none of the addresses asked for, so that a busy LAN does not wake the process.
 */
import { type IpAddress, ipBytes, ipFamily } from "../base/addresses.ts";
import { IPPROTO } from "./constants.ts";

/** Operations, by the names of what they do with the accumulator and the index register. */
export const BPF = {
  LOAD_IMMEDIATE: 0x00,
  LOAD_INDEX_IMMEDIATE: 0x01,
  RETURN: 0x06,
  MOVE_TO_INDEX: 0x07,
  JUMP_EQUAL: 0x15,
  LOAD_WORD: 0x20,
  JUMP_ABOVE: 0x25,
  LOAD_BYTE: 0x30,
  JUMP_FROM: 0x35,
  LOAD_WORD_INDEXED: 0x40,
  JUMP_BITS: 0x45,
  LOAD_BYTE_INDEXED: 0x50,
  AND: 0x54,
} as const;
const WHOLE_PACKET = 0xffff;

/** Jumps count the instructions to be left out. */
export type BpfInstruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

/** Instructions as `struct sock_filter`. */
export function assembleBpf(program: readonly BpfInstruction[]): Uint8Array {
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

const accept: BpfInstruction = [BPF.RETURN, 0, 0, WHOLE_PACKET];
const refuse: BpfInstruction = [BPF.RETURN, 0, 0, 0];

/** The 32 bits from `at` on: all of an IPv4 address, the end of an IPv6 one (checked whole by the reader). */
function word(address: IpAddress): number {
  const bytes = ipBytes(address);
  return new DataView(bytes.buffer).getUint32(bytes.length - 4);
}

/** ARP packets whose sender is one of the addresses, and probes for one of them (sender 0.0.0.0). */
export function arpFilter(addresses: readonly IpAddress[]): Uint8Array {
  const words = addresses.filter((address) => ipFamily(address) === 4).map(word);
  return assembleBpf([
    [BPF.LOAD_WORD, 0, 0, 14],
    ...words.flatMap((value): BpfInstruction[] => [[BPF.JUMP_EQUAL, 0, 1, value], accept]),
    [BPF.JUMP_EQUAL, 1, 0, 0],
    refuse,
    [BPF.LOAD_WORD, 0, 0, 24],
    ...words.flatMap((value): BpfInstruction[] => [[BPF.JUMP_EQUAL, 0, 1, value], accept]),
    refuse,
  ]);
}

/** Neighbour solicitations and advertisements for one of the addresses. */
export function ndFilter(addresses: readonly IpAddress[]): Uint8Array {
  const words = addresses.filter((address) => ipFamily(address) === 6).map(word);
  return assembleBpf([
    [BPF.LOAD_BYTE, 0, 0, 6],
    [BPF.JUMP_EQUAL, 1, 0, IPPROTO.ICMPV6],
    refuse,
    [BPF.LOAD_BYTE, 0, 0, 40],
    [BPF.JUMP_EQUAL, 2, 0, 135],
    [BPF.JUMP_EQUAL, 1, 0, 136],
    refuse,
    [BPF.LOAD_WORD, 0, 0, 60],
    ...words.flatMap((value): BpfInstruction[] => [[BPF.JUMP_EQUAL, 0, 1, value], accept]),
    refuse,
  ]);
}
