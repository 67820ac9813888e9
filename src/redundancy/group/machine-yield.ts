/** Giving way to a better one that is heard, where connections are replicated: they go first. */
import { compareIp } from "../../base/addresses.ts";
import { addTime } from "../../base/time.ts";
import { flushTime, freshPeers } from "./machine-flows.ts";
import { isFrom } from "./machine-handover.ts";
import { type GroupEvent, effectivePriority } from "./machine-state.ts";
import type { Turn } from "./machine-turn.ts";

type Advertisement = Extract<GroupEvent, { type: "advertisement" }>;

/** To the Active that is heard, as far as hello tells who that is; else to every node that lives. */
function heirs(turn: Turn, event: Advertisement): string[] {
  const fresh = freshPeers(turn.state, turn.context);
  const distance = (node: string, priority: number): number =>
    isFrom(turn, event, node) ? -1 : Math.abs(priority - event.priority);
  const [active] = fresh
    .filter(([, { state }]) => state === "active")
    .sort(([a, x], [b, y]) => distance(a, x.priority) - distance(b, y.priority));
  return (active === undefined ? fresh : [active]).map(([node]) => node);
}

/**
 * True where this node will give way to what it hears, and first sends the connections that it has: the
 * advertisement is kept until they are acknowledged. The clients that know this node are served meanwhile.
 */
export function yieldsLater(turn: Turn, event: Advertisement): boolean {
  const { state, context } = turn;
  const { plan, now } = context;
  const within = flushTime(state, plan);
  const link = state.links[event.index];
  if (state.name !== "active" || state.gated) return false;
  if (within === undefined || link?.source === undefined) return false;
  const order =
    event.priority - effectivePriority(plan, state.failing) || compareIp(event.source, link.source);
  if (event.source === link.source || order <= 0 || link.vrrp.suspect) return false;
  if (state.yielding !== undefined) {
    turn.patch({ yielding: { ...state.yielding, event } });
    return true;
  }
  const nodes = heirs(turn, event);
  if (nodes.length === 0) return false;
  const id = state.lastId + 1;
  turn.patch({ lastId: id, yielding: { id, left: nodes.length, event } });
  turn.arm("yield", addTime(now, within));
  for (const to of nodes) turn.push({ type: "flush", id, to, within });
  return true;
}
