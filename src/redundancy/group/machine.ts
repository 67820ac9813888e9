/**
 * The decision of one virtual router on one node. The instances follow RFC 9568 each; this machine lets
 * them move together:
 * - a Backup takes over when the Active is silent on *every* link, since one that is heard anywhere lives;
 * - an Active that must give way on one link gives way on all, and a fault of one link faults all;
 * - a tie is broken on the first link in the site file while anything is heard there, since the addresses
 *   of two links may order two nodes differently.
 *
 * A thing tracked without `lower` faults the router; but an Active whose router has other nodes gives up
 * for it only to a node that says it can serve: if a gateway is gone for both, the owner stays.
 */
import { unreachable } from "../../base/result.ts";
import { type MonotonicMs, NEVER, addTime, earliest, ms } from "../../base/time.ts";
import type { RouterState } from "../../contracts/redundancy.ts";
import { activeDownInterval } from "../vrrp/machine.ts";
import { awaited, unsynced } from "./machine-flows.ts";
import {
  answerMessage,
  beginSwitchover,
  flushed,
  giveUpHandover,
  handoverRole,
  healthierPeer,
  releasedByGiver,
  offerAgain,
  tryToGive,
} from "./machine-handover.ts";
import {
  type Failing,
  type GroupContext,
  type GroupEvent,
  type GroupState,
  type GroupStep,
  WATCH_EVERY,
  WEAK_FOR,
  effectivePriority,
  isOut,
} from "./machine-state.ts";
import { Turn } from "./machine-turn.ts";
import { yieldsLater } from "./machine-yield.ts";

export function nextGroupDeadline(state: GroupState): MonotonicMs {
  const group = earliest(...Object.values(state.deadlines));
  const { links } = state;
  if (links.length === 0) return group;
  if (state.name === "active") return earliest(group, ...links.map((l) => l.vrrp.deadlines.advertise));
  // Every link must be silent: the last deadline counts.
  if (state.name === "backup")
    return earliest(group, Math.max(...links.map((l) => l.vrrp.deadlines.activeDown)) as MonotonicMs);
  return group;
}

const hardFault = (turn: Turn): string | undefined => {
  const link = turn.state.links.find(({ up }) => !up);
  if (link) return link.reason;
  const kinds = new Map(turn.context.plan.tracks.map((track) => [track.name, track.kind]));
  const failing = turn.state.failing.find(
    ({ name, lower }) => lower === undefined && kinds.get(name) === "interface",
  );
  return failing && `${failing.name}: ${failing.reason}`;
};
const softFault = (turn: Turn): string | undefined => {
  const failing = turn.state.failing.find(({ lower }) => lower === undefined);
  return failing && `${failing.name}: ${failing.reason}`;
};

/** Brings the state in line with what fails now. Called after every fact. */
function evaluate(turn: Turn): void {
  const { state, context } = turn;
  if (state.stopping || state.name === "initialize") return;
  const hard = hardFault(turn);
  const soft = hard ?? softFault(turn);
  if (state.name === "fault") {
    if (soft === undefined) turn.join("recovered");
    else turn.patch({ reason: soft });
    return;
  }
  const alone = context.plan.nodes.length <= 1;
  if (hard !== undefined || (soft !== undefined && (state.name !== "active" || alone))) {
    turn.fault(soft ?? "");
    return;
  }
  if (state.name === "active") weigh(turn, soft);
}

/**
 * Active and not at its best: hand over, preemption or not. With a fault to any node that can serve, at once;
 * merely lowered to one that has been healthier for a while.
 */
function weigh(turn: Turn, soft: string | undefined): void {
  const { state, context } = turn;
  const full = effectivePriority(context.plan, state.failing) >= context.plan.priority;
  if (soft === undefined && full && !isOut(state)) {
    turn.arm("watch", NEVER);
    turn.patch({ weakSince: NEVER });
    return;
  }
  turn.arm("watch", addTime(context.now, WATCH_EVERY));
  if (soft !== undefined) {
    tryToGive(turn, { kind: "self" });
    return;
  }
  const to = healthierPeer(turn);
  const since = to === undefined ? NEVER : earliest(state.weakSince, context.now);
  turn.patch({ weakSince: since });
  const urgent = context.plan.tracks.some(
    ({ name, atOnce }) => atOnce === true && state.failing.some((failing) => failing.name === name),
  );
  if (to !== undefined && (urgent || context.now - since >= WEAK_FOR)) tryToGive(turn, { kind: "self" }, to);
}

function setFailing(turn: Turn, name: string, failing: Failing | undefined): void {
  const before = effectivePriority(turn.context.plan, turn.state.failing);
  const others = turn.state.failing.filter((other) => other.name !== name);
  turn.patch({ failing: failing ? [...others, failing] : others });
  if (effectivePriority(turn.context.plan, turn.state.failing) !== before) turn.all({ type: "configured" });
  evaluate(turn);
}

function onLink(turn: Turn, event: Extract<GroupEvent, { type: "link" }>): void {
  const link = turn.state.links[event.index];
  if (!link) return;
  turn.patchLink(event.index, {
    up: event.up,
    reason: event.reason,
    source: event.up ? event.source : undefined,
  });
  evaluate(turn);
}

/**
 * A tie is the first link's to break. Another link breaks it only when the first one has had two intervals
 * to hear of it and has not. (Simulation seed 31: each node gave way on the link where the other's address
 * is greater, both were Backup, and so on for ever.)
 */
function tiedElsewhere(turn: Turn, event: Extract<GroupEvent, { type: "advertisement" }>): boolean {
  const { context, state } = turn;
  const { now, plan } = context;
  const own = effectivePriority(plan, state.failing);
  if (event.index === 0 || state.name !== "active" || event.priority !== own) return false;
  const heard = state.links[0]?.vrrp.heard;
  if (heard?.priority === own && now - heard.at < activeDownInterval(plan.version, own, plan.interval)) {
    turn.patch({ tieSince: NEVER });
    return true;
  }
  if (state.tieSince === NEVER) turn.patch({ tieSince: now });
  return now - earliest(state.tieSince, now) < 2 * plan.interval;
}

function onAdvertisement(turn: Turn, event: Extract<GroupEvent, { type: "advertisement" }>): void {
  const link = turn.state.links[event.index];
  if (!link?.up) return;
  const elects = handoverRole(turn, event) === undefined;
  if (elects && (tiedElsewhere(turn, event) || yieldsLater(turn, event))) return;
  hear(turn, event);
}
function hear(turn: Turn, event: Extract<GroupEvent, { type: "advertisement" }>): void {
  const { name } = turn.state;
  const { source, priority, interval } = event;
  const mode = handoverRole(turn, event);
  turn.one(event.index, { type: "advertisement", source, priority, interval, handover: mode });
  if (name === "backup" && priority === 0)
    turn.state.links.forEach((_, index) => {
      if (index !== event.index) turn.one(index, { type: "released" });
    });
  if (name === "active" && turn.state.links[event.index]?.vrrp.name === "backup") {
    const last = turn.lastReason;
    if (mode === "giving") turn.given(last);
    else turn.lost(last, event.index);
    evaluate(turn);
  }
}

/** The better one that was heard is followed now. */
function giveWay(turn: Turn): void {
  const { yielding } = turn.state;
  turn.arm("yield", NEVER);
  turn.patch({ yielding: undefined });
  if (yielding !== undefined && turn.state.name === "active") hear(turn, yielding.event);
}

/** By one of the nodes that were asked; the last one's answer is the end. */
function acknowledged(turn: Turn, yielding: NonNullable<GroupState["yielding"]>): void {
  const left = yielding.left - 1;
  turn.patch({ yielding: { ...yielding, left } });
  if (left <= 0) giveWay(turn);
}

function onFlows(turn: Turn, { flows }: Extract<GroupEvent, { type: "flows" }>): void {
  turn.patch({ flows });
  const { gated, healing } = turn.state;
  if (gated && !awaited(turn.state)) turn.openGate("the connections are here", false);
  if (healing !== undefined && unsynced(turn.state, turn.context) === undefined) turn.healed(healing);
}

function onTimer(turn: Turn): void {
  const { now, plan } = turn.context;
  const due = (timer: keyof GroupState["deadlines"]): boolean => turn.state.deadlines[timer] <= now;
  if (due("start")) {
    turn.arm("start", NEVER);
    turn.join("started");
    evaluate(turn);
  }
  if (due("handover")) giveUpHandover(turn);
  if (due("offer")) offerAgain(turn);
  if (turn.state.name === "backup") {
    if (turn.state.links.every(({ vrrp }) => vrrp.deadlines.activeDown <= now)) turn.takeOver();
  } else if (turn.state.name === "active") {
    turn.all({ type: "timer" });
    if (due("again")) turn.announce("again", NEVER, "a while after the takeover");
    if (due("lease")) turn.announce("lease", NEVER, "the predecessor's lease has run out");
    if (due("refresh")) turn.announce("refresh", addTime(now, plan.announce.refresh), "refresh");
    if (due("gate")) turn.openGate("promoted without the connections that had not arrived in time", true);
    if (due("heal")) turn.healed(turn.state.healing ?? "");
    if (due("yield")) giveWay(turn);
    if (due("watch")) {
      turn.arm("watch", NEVER);
      evaluate(turn);
    }
  }
}

function stop(turn: Turn): void {
  turn.patch({ stopping: true });
  if (turn.state.name === "active" && tryToGive(turn, { kind: "stop" })) return;
  turn.shutDown("stopped");
}

/** A hand-over is late by its own timer; other nodes took over if two advertisements are missing. */
function onWoke(turn: Turn, late: number): void {
  if (late >= 2 * turn.context.plan.interval) turn.all({ type: "stalled", late: ms(late) });
}

export function stepGroup(state: GroupState, event: GroupEvent, context: GroupContext): GroupStep {
  const turn = new Turn(state, context);
  switch (event.type) {
    case "start":
      turn.patch({ resume: event.resume === true });
      turn.arm("start", addTime(context.now, event.resume ? ms(0) : context.plan.startDelay));
      break;
    case "link":
      onLink(turn, event);
      break;
    case "track": {
      const track = context.plan.tracks.find(({ name }) => name === event.name);
      if (!track) break;
      const { name, lower } = track;
      setFailing(turn, name, event.good ? undefined : { name, reason: event.reason, lower });
      break;
    }
    case "lower":
      if (event.by === 0) turn.broughtBack(event.name);
      setFailing(
        turn,
        event.name,
        event.by > 0 ? { name: event.name, reason: event.reason, lower: event.by } : undefined,
      );
      break;
    case "advertisement":
      onAdvertisement(turn, event);
      break;
    case "timer":
      onTimer(turn);
      break;
    case "woke":
      onWoke(turn, event.late);
      break;
    case "peer":
      turn.heardPeer(event.node, event.peer);
      releasedByGiver(turn, event.node);
      break;
    case "message":
      answerMessage(turn, event.from, event.message);
      break;
    case "restarted":
      turn.patch({ seenIds: { ...state.seenIds, [event.node]: 0 } });
      break;
    case "switchover":
      beginSwitchover(turn, { kind: "command", id: event.id }, event.to);
      break;
    case "flows":
      onFlows(turn, event);
      break;
    case "flushed":
      if (turn.state.yielding?.id === event.id) acknowledged(turn, turn.state.yielding);
      else flushed(turn, event.id);
      break;
    case "planned":
      turn.replanned();
      evaluate(turn);
      break;
    case "stop":
      stop(turn);
      break;
    default:
      unreachable(event);
  }
  return turn.finish();
}

/** The transitions of a group, for its README and its tests: from, to, and on what. */
export const GROUP_TRANSITIONS: readonly (readonly [RouterState, RouterState, string])[] = [
  ["initialize", "backup", "start delay over, nothing fails"],
  ["initialize", "active", "start delay over, priority 255"],
  ["initialize", "fault", "start delay over, something fails"],
  ["backup", "active", "silence on every link, or a hand-over"],
  ["active", "backup", "a better one is heard, or the one handed over to"],
  ["backup", "fault", "a link or a tracked thing fails"],
  ["active", "fault", "a link fails, priority 0 is sent"],
  ["fault", "backup", "everything recovered"],
  ["fault", "active", "everything recovered, priority 255"],
  ["backup", "initialize", "stopped"],
  ["active", "initialize", "stopped, handed over or priority 0"],
  ["fault", "initialize", "stopped"],
];
