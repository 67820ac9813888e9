/** How flows are told from each other, and how long a copy of one lives: pure. */
import { type MonotonicMs, addTime, ms } from "../../base/time.ts";
import { IPPROTO } from "../../linux/constants.ts";
import { type Flow, type FlowPlan, TCP_STATE, tuplesSame } from "../../linux/wire-conntrack.ts";
import type { Entry, FlowRecord } from "./wire.ts";

export type Ended = Extract<Entry, { ended: true }>["flow"];

/**
 * Seconds that a peer's flow lives here unless it is prolonged, which it is at a third: so it has at least the 2 h 4 min
 * of RFC 5382 (REQ-5) left when we take it over, until its next packet gives it the kernel's own time. Not longer,
 * since one whose end was never told (its node died) is in the table for so long.
 */
export const LONGEST = 11_160;
/** Seconds that a copy lives at least: a listing says only what is left of a flow's time, which may be almost nothing. */
export const SHORTEST = 30;
/** Seconds for a flow that ended elsewhere: as long as the kernel keeps a closed one. A packet gives it all its time. */
const UNPROVEN = 120;
export const unproven = (plan: FlowPlan): FlowPlan => ({
  ...plan,
  timeout: Math.min(plan.timeout, UNPROVEN),
});
/** Two Actives tell each other of a flow once in this time, however often either does. */
export const ANSWERED_FOR = ms(3000);
/** At a third of its time, so that two rounds may fail. */
export const prolongAt = (flow: FlowRecord, now: MonotonicMs): MonotonicMs =>
  addTime(now, ms((Math.min(flow.timeout, LONGEST) * 1000) / 3));

/** TIME_WAIT and CLOSE: nothing can be lost any more, and the client may use the port again for another backend. */
export const closed = ({ tcpState }: Flow): boolean =>
  tcpState === TCP_STATE.TIME_WAIT || tcpState === TCP_STATE.CLOSE;

/** In its handshake: not assured yet. */
export const halfOpen = ({ protocol, tcpState }: Pick<Flow, "protocol" | "tcpState">): boolean =>
  protocol === IPPROTO.TCP && (tcpState === TCP_STATE.SYN_SENT || tcpState === TCP_STATE.SYN_RECV);

export const closing = ({ tcpState }: FlowRecord): boolean => tcpState >= TCP_STATE.FIN_WAIT;

export const ended = ({ family, protocol, original, service }: FlowRecord): Ended => ({
  family,
  protocol,
  original,
  service,
});

export function recordOf(flow: Flow, service: string): FlowRecord {
  const { family, protocol, original, reply, timeout, tcpState, windowScales } = flow;
  return { service, family, protocol, original, reply, timeout, tcpState, windowScales };
}

/** Whether a peer would do the same with it: a new lifetime alone is no news. */
export const same = (known: FlowRecord, flow: Flow, service: string): boolean =>
  known.tcpState === flow.tcpState &&
  known.service === service &&
  tuplesSame(known.reply, flow.reply) &&
  known.windowScales?.[0] === flow.windowScales?.[0] &&
  known.windowScales?.[1] === flow.windowScales?.[1];
