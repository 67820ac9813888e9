/** Which connection events the kernel passes to a netlink socket: its ancillary load NLATTR finds an attribute by type. */
import { BPF, type BpfInstruction, assembleBpf } from "./wire-bpf.ts";
import { CTA, FLOW_STATUS, TCP, TCP_STATE } from "./wire-conntrack.ts";

const ANCILLARY_NLATTR = 0xfffff00c; // SKF_AD_OFF + SKF_AD_NLATTR
const ANCILLARY_NLATTR_NEST = 0xfffff010; // SKF_AD_OFF + SKF_AD_NLATTR_NEST
const FIRST_ATTRIBUTE = 20; // after nlmsghdr and nfgenmsg
/** Low byte of nlmsg_type, which is in host order. */
const MESSAGE_TYPE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 4 : 5;
const MESSAGE_DELETE = 2;

/**
 * Events of assured flows whose mark has these bits: whatever else the host forwards never wakes us, nor do the
 * steps of a connection between its first FIN and its end.
 */
export function flowEventFilter(mark: { readonly value: number; readonly mask: number }): Uint8Array {
  const program: BpfInstruction[] = [];
  const attribute = (type: number): void => {
    program.push(
      [BPF.LOAD_IMMEDIATE, 0, 0, FIRST_ATTRIBUTE],
      [BPF.LOAD_INDEX_IMMEDIATE, 0, 0, type],
      [BPF.LOAD_WORD, 0, 0, ANCILLARY_NLATTR],
      [BPF.JUMP_EQUAL, 0, 1, 0], // not there
      [BPF.RETURN, 0, 0, 0],
      [BPF.MOVE_TO_INDEX, 0, 0, 0],
      [BPF.LOAD_WORD_INDEXED, 0, 0, 4],
    );
  };
  attribute(CTA.MARK);
  program.push([BPF.AND, 0, 0, mark.mask], [BPF.JUMP_EQUAL, 1, 0, mark.value], [BPF.RETURN, 0, 0, 0]);
  attribute(CTA.STATUS);
  program.push([BPF.JUMP_BITS, 1, 0, FLOW_STATUS.ASSURED], [BPF.RETURN, 0, 0, 0]);
  program.push(
    [BPF.LOAD_BYTE, 0, 0, MESSAGE_TYPE],
    [BPF.JUMP_EQUAL, 15, 0, MESSAGE_DELETE],
    [BPF.LOAD_IMMEDIATE, 0, 0, FIRST_ATTRIBUTE],
    [BPF.LOAD_INDEX_IMMEDIATE, 0, 0, CTA.PROTOINFO],
    [BPF.LOAD_WORD, 0, 0, ANCILLARY_NLATTR],
    [BPF.JUMP_EQUAL, 11, 0, 0], // not there: UDP
    [BPF.LOAD_INDEX_IMMEDIATE, 0, 0, 1], // CTA_PROTOINFO_TCP
    [BPF.LOAD_WORD, 0, 0, ANCILLARY_NLATTR_NEST],
    [BPF.JUMP_EQUAL, 8, 0, 0],
    [BPF.LOAD_INDEX_IMMEDIATE, 0, 0, TCP.STATE],
    [BPF.LOAD_WORD, 0, 0, ANCILLARY_NLATTR_NEST],
    [BPF.JUMP_EQUAL, 5, 0, 0],
    [BPF.MOVE_TO_INDEX, 0, 0, 0],
    [BPF.LOAD_BYTE_INDEXED, 0, 0, 4],
    [BPF.JUMP_FROM, 0, 2, TCP_STATE.CLOSE_WAIT],
    [BPF.JUMP_ABOVE, 1, 0, TCP_STATE.LAST_ACK],
    [BPF.RETURN, 0, 0, 0],
    [BPF.RETURN, 0, 0, 0xffffffff],
  );
  return assembleBpf(program);
}
