/**
 * Where the connections of a router are replicated, its address never comes before them if that can be had:
 * - handing over, the offer waits until the other node has acknowledged everything (`handover`);
 * - taking over while a node's connections are still arriving, the addresses stay closed (`takeover`);
 * - a Backup does not preempt a node whose connections it does not have, nor, for a while, one that it does not know;
 * - after a partition the one that gives way first sends what it took, and the other announces when it has that.
 *
 * Every wait has a deadline, and none begins where the flows process says nothing, but for preemption: there
 * the Active serves on.
 */
import { seconds } from "../../base/time.ts";
import type { RouterPlan } from "../../contracts/redundancy.ts";
import {
  type GroupContext,
  type GroupState,
  PEER_FRESH,
  type Peer,
  effectivePriority,
} from "./machine-state.ts";

/** An Active that has not said hello for so long is no node of this site, or cannot: it is preempted all the same. */
const HELLO_WITHIN = seconds(30);

/** The other nodes that said hello a moment ago: those run this program, and live. */
export const freshPeers = (state: GroupState, { node, now }: GroupContext): [string, Peer][] =>
  Object.entries(state.peers).filter(([name, { at }]) => name !== node && now - at < PEER_FRESH);

/** Only such a node has connections that no other node had before it. */
const wasActive = ({ state, claims }: Peer): boolean => state === "active" || claims > 0;

/** A living node that is or was Active, and whose connections are not all here. */
export const unsynced = (state: GroupState, context: GroupContext): string | undefined =>
  freshPeers(state, context).find(
    ([name, peer]) => wasActive(peer) && state.flows?.synced.includes(name) !== true,
  )?.[0];

/** Connections are arriving that the addresses must not come before. One that never said hello may have any. */
export const awaited = ({ flows, peers }: GroupState): boolean =>
  flows?.arriving.some((name) => {
    const peer = peers[name];
    return peer === undefined || wasActive(peer);
  }) === true;

/** Why a Backup must not preempt; undefined where it may. */
export function withheld(state: GroupState, context: GroupContext): string | undefined {
  const { plan, now } = context;
  if (plan.flows === undefined) return undefined;
  const active = freshPeers(state, context).find(([, peer]) => peer.state === "active")?.[0];
  if (active === undefined) {
    const told = Object.values(state.peers).flatMap((peer) => (peer.state === "active" ? [peer.at] : []));
    return state.name === "backup" && now - Math.max(state.since, ...told) < HELLO_WITHIN
      ? `the Active has not said hello (UDP port 5112), so that nobody knows whose connections are to be in sync; it ` +
          `has ${HELLO_WITHIN / 1000} s for that`
      : undefined;
  }
  if (state.flows?.synced.includes(active) === true) return undefined;
  const why = state.flows === undefined ? "the flows process says nothing" : "they are not all here";
  return `the connections of ${active} are not in sync: ${why}`;
}

/** For people: what a router would do if its connections were in sync. */
export function waitsFor(state: GroupState, context: GroupContext): string | undefined {
  const { plan } = context;
  if (state.gated) return "addresses closed until the connections have arrived";
  if (state.name !== "backup" || !plan.preempt) return undefined;
  const own = effectivePriority(plan, state.failing);
  const lower = state.links.every(
    ({ vrrp }) => vrrp.heard !== undefined && vrrp.heard.priority > 0 && vrrp.heard.priority < own,
  );
  const reason = lower && state.links.length > 0 ? withheld(state, context) : undefined;
  return reason === undefined ? undefined : `does not preempt: ${reason}`;
}

/** How long a hand-over waits for the connections before the offer; undefined where it does not. */
export const flushTime = (state: GroupState, plan: RouterPlan) =>
  state.flows === undefined ? undefined : plan.flows?.handover;
