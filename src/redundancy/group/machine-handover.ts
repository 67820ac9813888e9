/**
 * Switchover, make before break. The Active (giver) offers; the Backup (taker) installs the addresses,
 * announces them, and advertises last; the giver serves on until it hears that, then removes its own.
 *
 *     giver                              taker
 *       | connections acknowledged         |  (where they are replicated)
 *       | offer (again every 100 ms)       |
 *       | ------------------------------>  |  addresses, announcements
 *       |                                  |  ignores the giver's higher priority meanwhile, nobody else's
 *       | <------------- advertisement --- |
 *       |  addresses removed               |
 *
 * A lost offer is sent again; a lost advertisement is asked for by the next offer. If nothing is heard
 * within a second, the giver cancels and goes on; if the taker has taken after all, the election settles
 * it as it settles any split brain. A dead giver changes nothing: the taker is Active.
 */
import { NEVER, addTime, earliest, ms } from "../../base/time.ts";
import { flushTime, freshPeers } from "./machine-flows.ts";
import {
  type GroupEvent,
  HANDOVER_WITHIN,
  type NodeMessage,
  OFFER_EVERY,
  PEER_FRESH,
  type Peer,
  type Requester,
  effectivePriority,
  isEligible,
  isOut,
} from "./machine-state.ts";
import type { Turn } from "./machine-turn.ts";

type Advertisement = Extract<GroupEvent, { type: "advertisement" }>;

const handoverTime = (turn: Turn): number => Math.max(HANDOVER_WITHIN, 3 * turn.context.plan.interval);

const askTime = (turn: Turn): number => 2 * handoverTime(turn) + (turn.context.plan.flows?.handover ?? 0);

/** The node with the highest priority among those that could take over. */
function bestPeer(turn: Turn, fit: (node: string, peer: Peer) => boolean = () => true): string | undefined {
  const able = freshPeers(turn.state, turn.context).filter(
    ([node, peer]) => peer.eligible && fit(node, peer),
  );
  return able.sort(([a, x], [b, y]) => y.priority - x.priority || (a < b ? -1 : 1))[0]?.[0];
}

function give(turn: Turn, to: string, requester: Requester): void {
  const id = turn.state.lastId + 1;
  const { plan, now } = turn.context;
  const within = flushTime(turn.state, plan);
  turn.patch({ lastId: id, handover: { kind: "giving", to, id, requester, offered: false } });
  turn.arm("handover", addTime(now, ms(handoverTime(turn) + (within ?? 0))));
  if (within !== undefined) {
    // The offer is due at the latest when the connections have been waited for long enough.
    turn.arm("offer", addTime(now, within));
    turn.push({ type: "flush", id, to, within });
    return;
  }
  if (plan.flows !== undefined)
    turn.push({
      type: "tell",
      event: "redundancy.flows_not_flushed",
      reason: `handing over to ${to} at once: the flows process says nothing`,
    });
  offerAgain(turn);
}
/** The connections are acknowledged, or cannot be. */
export function flushed(turn: Turn, id: number): void {
  const { handover } = turn.state;
  if (handover.kind !== "giving" || handover.id !== id || handover.offered) return;
  turn.arm("handover", addTime(turn.context.now, ms(handoverTime(turn))));
  offerAgain(turn);
}

/**
 * A node that is now above this one, and that is lowered by less: two nodes that fail alike leave the addresses
 * where they are, whatever their priorities in the site file. For a node that is taken out every one that is not is
 * healthier, even where its own priority in the site file is hardly more than the 1 that it has now.
 */
export function healthierPeer(turn: Turn): string | undefined {
  const { plan } = turn.context;
  const own = effectivePriority(plan, turn.state.failing);
  const out = isOut(turn.state);
  return bestPeer(turn, (node, { priority }) => {
    if (out) return priority > own;
    const base = plan.nodes.find((each) => each.node === node)?.priority ?? priority;
    return priority > own && base - priority < plan.priority - own;
  });
}

/** Offers to the best node. False where there is none or a hand-over is under way. */
export function tryToGive(turn: Turn, requester: Requester, to = bestPeer(turn)): boolean {
  if (turn.state.handover.kind !== "none" || to === undefined) return false;
  give(turn, to, requester);
  return true;
}

export function offerAgain(turn: Turn): void {
  const { handover } = turn.state;
  if (handover.kind !== "giving") {
    turn.arm("offer", NEVER);
    return;
  }
  const { router } = turn.context.plan;
  if (!handover.offered) turn.patch({ handover: { ...handover, offered: true } });
  turn.arm("offer", addTime(turn.context.now, OFFER_EVERY));
  turn.push({ type: "message", to: handover.to, message: { type: "offer", router, id: handover.id } });
}

/**
 * Is it that node's? By the address, where the site file says whose it is; else by the priority that its fresh hello
 * told, unless another node with the same one says that it is Active.
 */
export function isFrom(turn: Turn, event: Advertisement, node: string): boolean {
  const { plan } = turn.context;
  const instance = plan.instances[event.index];
  const named = [...(instance?.peers ?? []), ...plan.nodes].find(({ address }) => address === event.source);
  if (named !== undefined) return named.node === node;
  const alike = freshPeers(turn.state, turn.context).filter(
    ([, { priority }]) => priority === event.priority,
  );
  const own = alike.find(([name]) => name === node)?.[1];
  return own !== undefined && (own.state === "active" || alike.every(([, { state }]) => state !== "active"));
}

/**
 * The part that an advertisement has in the hand-over under way: "giving", the taker's, which ends it; "taking",
 * the giver's, which counts for nothing. Undefined where the election decides, as it does for everyone else's.
 */
export function handoverRole(turn: Turn, event: Advertisement): "giving" | "taking" | undefined {
  const { handover, deadlines } = turn.state;
  // Past its deadline it is over, even where a stall kept its timer from saying so.
  if (turn.context.now >= deadlines.handover || event.priority === 0) return undefined;
  if (handover.kind === "giving")
    return handover.offered && isFrom(turn, event, handover.to) ? "giving" : undefined;
  return handover.kind === "taking" && isFrom(turn, event, handover.from) ? "taking" : undefined;
}

/** The giver's hello says that it let go. What it advertised before may still be on its way; then it counts again. */
export function releasedByGiver(turn: Turn, node: string): void {
  const { handover, peers, deadlines } = turn.state;
  if (handover.kind !== "taking" || handover.from !== node || peers[node]?.state === "active") return;
  turn.arm("handover", earliest(deadlines.handover, addTime(turn.context.now, OFFER_EVERY)));
}

/** The timer of a hand-over has run out. */
export function giveUpHandover(turn: Turn): void {
  const { handover } = turn.state;
  const { router } = turn.context.plan;
  if (handover.kind === "giving") {
    turn.push({ type: "message", to: handover.to, message: { type: "cancel", router, id: handover.id } });
    turn.settle(`${handover.to} was not heard as Active within ${handoverTime(turn)} ms`);
    if (turn.state.stopping) turn.shutDown("stopped");
  } else if (handover.kind === "asking") {
    turn.settle(`${handover.of} did not answer within ${askTime(turn)} ms`);
  } else {
    // Taking: from here on the election counts again.
    turn.patch({ handover: { kind: "none" } });
    turn.arm("handover", NEVER);
  }
}

/** Why this node cannot be given the addresses; undefined where it can. */
function unfit(turn: Turn, to: string): string | undefined {
  const { plan, now } = turn.context;
  const names = plan.nodes.map(({ node }) => node);
  if (!names.includes(to)) return `${plan.router} has no node ${to}; it has ${names.join(", ")}`;
  const peer = turn.state.peers[to];
  if (!peer || now - peer.at >= PEER_FRESH) return `${to} has not been heard for ${PEER_FRESH} ms`;
  if (!peer.eligible) return `${to} cannot take over: it is in state ${peer.state} or something fails there`;
  return undefined;
}

function refuse(turn: Turn, requester: Requester, error: string): void {
  const { router } = turn.context.plan;
  if (requester.kind === "command") turn.push({ type: "result", id: requester.id, ok: false, error });
  if (requester.kind === "node")
    turn.push({
      type: "message",
      to: requester.node,
      message: { type: "answer", router, id: requester.id, error },
    });
}

export function beginSwitchover(turn: Turn, requester: Requester, to: string | undefined): void {
  const { state, context } = turn;
  // Having taken over a moment ago is no obstacle to giving.
  if (state.handover.kind === "giving" || state.handover.kind === "asking")
    return refuse(turn, requester, "a hand-over is under way already");
  if (state.name !== "active") return askTheActive(turn, requester, to ?? context.node);
  if (to === context.node) return refuse(turn, requester, `${to} is Active already`);
  if (to === undefined && context.plan.nodes.length <= 1) {
    turn.releaseToForeign("released on command");
    if (requester.kind === "command") turn.push({ type: "result", id: requester.id, ok: true });
    return undefined;
  }
  const target = to ?? bestPeer(turn);
  if (target === undefined)
    return refuse(turn, requester, "no other node of this router is heard and able to take over");
  const reason = unfit(turn, target);
  if (reason !== undefined) return refuse(turn, requester, reason);
  return give(turn, target, requester);
}

/** Commanded on a Backup: the Active does it, and tells how it went. */
function askTheActive(turn: Turn, requester: Requester, to: string): void {
  const { state, context } = turn;
  const active = Object.entries(state.peers).find(
    ([, peer]) => peer.state === "active" && context.now - peer.at < PEER_FRESH,
  )?.[0];
  if (requester.kind !== "command" || active === undefined)
    return refuse(turn, requester, `${context.node} is not Active, and no other node says it is`);
  if (to === active) return refuse(turn, requester, `${to} is Active already`);
  const id = state.lastId + 1;
  turn.patch({ lastId: id, handover: { kind: "asking", of: active, id, command: requester.id } });
  turn.arm("handover", addTime(context.now, ms(askTime(turn))));
  const { router } = context.plan;
  turn.push({ type: "message", to: active, message: { type: "ask", router, id, to } });
  return undefined;
}

function onOffer(turn: Turn, from: string, id: number): void {
  const { state, context } = turn;
  const { router } = context.plan;
  const answer = (reason: string): void =>
    turn.push({ type: "message", to: from, message: { type: "refuse", router, id, reason } });
  if (state.handover.kind === "taking" && state.handover.id === id && state.name === "active") {
    // The advertisement was lost, or is on its way: once more.
    const priority = effectivePriority(context.plan, state.failing);
    state.links.forEach((_, index) => turn.push({ type: "advertise", index, priority }));
    return;
  }
  // A duplicate, or one that was delayed beyond its cancellation.
  if (id <= (state.seenIds[from] ?? 0)) return;
  turn.patch({ seenIds: { ...state.seenIds, [from]: id } });
  if (state.name !== "backup") answer(`${context.node} is in state ${state.name}: ${state.reason}`);
  else if (!isEligible(state)) answer(`${context.node} cannot serve now`);
  // Its own question is answered by this offer; any other hand-over ends here.
  else {
    const asked = state.handover;
    turn.take(from);
    if (asked.kind === "asking") turn.push({ type: "result", id: asked.command, ok: true });
    turn.patch({ handover: { kind: "taking", from, id } });
    turn.arm("handover", addTime(context.now, ms(handoverTime(turn))));
  }
}

export function answerMessage(turn: Turn, from: string, message: NodeMessage): void {
  const { state } = turn;
  const { handover } = state;
  switch (message.type) {
    case "offer":
      onOffer(turn, from, message.id);
      break;
    case "refuse":
      if (handover.kind !== "giving" || handover.to !== from || handover.id !== message.id) break;
      turn.settle(`${from} refused: ${message.reason}`);
      if (state.stopping) turn.shutDown("stopped");
      break;
    case "cancel":
      turn.patch({
        seenIds: { ...state.seenIds, [from]: Math.max(message.id, state.seenIds[from] ?? 0) },
      });
      if (handover.kind === "taking" && handover.from === from && handover.id === message.id)
        giveUpHandover(turn);
      break;
    case "ask":
      if (message.id <= (state.seenIds[from] ?? 0)) break;
      turn.patch({ seenIds: { ...state.seenIds, [from]: message.id } });
      beginSwitchover(turn, { kind: "node", node: from, id: message.id }, message.to);
      break;
    case "answer":
      if (handover.kind === "asking" && handover.of === from && handover.id === message.id)
        turn.settle(message.error);
      break;
  }
}
