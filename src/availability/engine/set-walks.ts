/** Walks over minimal sets, modules unfolded in place: all of them, or the most probable first. */
import type { SetFamily } from "./set-family.ts";

/** Alternatives kept at most while the worst sets are sought; some 200 bytes each. */
const MAX_OPEN = 1_000_000;

export interface CutSet {
  /** Tree nodes of the events. */
  readonly events: readonly number[];
  readonly probability: number;
}

/** What is still to be chosen: a node, with what comes after it. */
interface Rest {
  readonly node: number;
  readonly after: Rest | undefined;
}
/** The events chosen so far, as a list that shares its tail. */
interface Chosen {
  readonly event: number;
  readonly before: Chosen | undefined;
}

/** Depth first over the diagrams; a stack of alternatives instead of recursion. */
export function enumerate(
  family: SetFamily,
  visit: (events: readonly number[], probability: number) => boolean,
): void {
  const { z, limits, rootOf } = family;
  const chosen: number[] = [];
  const chances: number[] = [1];
  const open: { rest: Rest | undefined; depth: number }[] = [
    { rest: { node: family.root, after: undefined }, depth: 0 },
  ];
  while (open.length > 0) {
    const { rest: start, depth } = open.pop()!;
    chosen.length = depth;
    chances.length = depth + 1;
    let rest: Rest | undefined = start;
    for (;;) {
      if (rest === undefined) {
        if (!visit(chosen, chances[chosen.length]!)) return;
        break;
      }
      const { node, after }: Rest = rest;
      if (node === 0) break;
      if (node === 1) {
        rest = after;
        continue;
      }
      if (z.low[node] !== 0) open.push({ rest: { node: z.low[node]!, after }, depth: chosen.length });
      const leaf = family.leafAt(node);
      const high: Rest | undefined = z.high[node] === 1 ? after : { node: z.high[node]!, after };
      const inner = rootOf.get(leaf);
      if (inner !== undefined) {
        rest = { node: inner, after: high };
        continue;
      }
      const chance: number = chances[chosen.length]! * family.chanceOf(leaf);
      if (chosen.length + 1 > limits.maxOrder || chance < limits.cutOff) break;
      chosen.push(family.eventOf(leaf));
      chances.push(chance);
      rest = high;
    }
  }
}

interface State {
  /** The greatest probability that it can still reach. */
  readonly bound: number;
  readonly chance: number;
  readonly order: number;
  readonly chosen: Chosen | undefined;
  readonly rest: Rest | undefined;
}

/** The greatest bound first; among equals what is closer to its end, so that few are open. */
const isBefore = (one: State, other: State): boolean =>
  one.bound > other.bound || (one.bound === other.bound && one.order > other.order);

class Heap {
  readonly #states: State[] = [];
  get size(): number {
    return this.#states.length;
  }
  push(state: State): void {
    const heap = this.#states;
    let at = heap.push(state) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(state, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = state;
  }
  pop(): State {
    const heap = this.#states;
    const best = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return best;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return best;
  }
}

/** The `wanted` most probable sets; fewer where there are none, or too many alternatives to weigh. */
export function worstSets(family: SetFamily, wanted: number): CutSet[] {
  const { z, limits, rootOf } = family;
  const heap = new Heap();
  const push = (state: Omit<State, "bound">): void => {
    let bound = state.chance;
    for (let at = state.rest; at !== undefined; at = at.after) bound *= family.bestUnder(at.node);
    if (bound >= limits.cutOff) heap.push({ ...state, bound });
  };
  const result: CutSet[] = [];
  if (family.root !== 0 && wanted > 0)
    push({ chance: 1, order: 0, chosen: undefined, rest: { node: family.root, after: undefined } });
  while (heap.size > 0 && result.length < wanted && heap.size < MAX_OPEN) {
    const state = heap.pop();
    const { rest } = state;
    if (rest === undefined) {
      const events: number[] = [];
      for (let at = state.chosen; at !== undefined; at = at.before) events.push(at.event);
      result.push({ events: events.reverse(), probability: state.chance });
      continue;
    }
    const { node, after } = rest;
    if (node === 1) {
      push({ ...state, rest: after });
      continue;
    }
    if (z.low[node] !== 0) push({ ...state, rest: { node: z.low[node]!, after } });
    const high: Rest | undefined = z.high[node] === 1 ? after : { node: z.high[node]!, after };
    const leaf = family.leafAt(node);
    const inner = rootOf.get(leaf);
    if (inner !== undefined) push({ ...state, rest: { node: inner, after: high } });
    else if (state.order < limits.maxOrder)
      push({
        chance: state.chance * family.chanceOf(leaf),
        order: state.order + 1,
        chosen: { event: family.eventOf(leaf), before: state.chosen },
        rest: high,
      });
  }
  return result;
}
