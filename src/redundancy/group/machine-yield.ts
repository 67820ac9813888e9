/** Giving way to a better one that is heard, where connections are replicated: they go first. */
import { compareIp } from "../../base/addresses.ts";
import { addTime } from "../../base/time.ts";
import { flushTime, knownNodes } from "./machine-flows.ts";
import { type GroupEvent, effectivePriority } from "./machine-state.ts";
import type { Turn } from "./machine-turn.ts";

type Advertisement = Extract<GroupEvent, { type: "advertisement" }>;

/**
 * True where this node will give way to what it hears, and first sends the connections that it has: the
 * advertisement is kept until they are acknowledged. The clients that know this node are served meanwhile.
 */
export function yieldsLater(turn: Turn, event: Advertisement): boolean {
  const { state, context } = turn;
  const { plan, now, node } = context;
  const within = flushTime(state, plan);
  const [to] = knownNodes(state, node);
  const link = state.links[event.index];
  if (state.name !== "active" || state.gated) return false;
  if (within === undefined || to === undefined || link?.source === undefined) return false;
  const order =
    event.priority - effectivePriority(plan, state.failing) || compareIp(event.source, link.source);
  if (event.source === link.source || order <= 0 || link.vrrp.suspect) return false;
  if (state.yielding === undefined) {
    const id = state.lastId + 1;
    turn.patch({ lastId: id, yielding: { id, event } });
    turn.arm("yield", addTime(now, within));
    turn.push({ type: "flush", id, to, within });
  } else turn.patch({ yielding: { ...state.yielding, event } });
  return true;
}
