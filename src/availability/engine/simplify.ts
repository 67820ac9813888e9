/**
 * A tree as the analysis wants it: constants gone, negations on literals, nested gates of one kind merged,
 * equal gates shared. What a user wrote keeps its meaning and loses its detours.
 */
import { unreachable } from "../../base/result.ts";
import { FALSE, type FaultTree, type GateKind, type Literal, TRUE, negate } from "./tree.ts";

export const OP_EVENT = 0;
export const OP_AND = 1;
export const OP_OR = 2;
export const OP_ATLEAST = 3;
export const OP_XOR = 4;

/** Literals as in a FaultTree; node 0 is the constant true. Inputs are sorted and come before their gate. */
export interface Graph {
  op: number[];
  inputs: Int32Array[];
  atLeast: number[];
  /** For events: the node in the tree; for gates one of those it came from, or -1. */
  origin: number[];
  top: Literal;
  coherent: boolean;
}

const NONE = new Int32Array(0);

class Builder {
  readonly graph: Graph = { op: [0], inputs: [NONE], atLeast: [0], origin: [-1], top: FALSE, coherent: true };
  readonly #known = new Map<string, Literal>();

  event(origin: number): Literal {
    const { graph } = this;
    graph.op.push(OP_EVENT);
    graph.inputs.push(NONE);
    graph.atLeast.push(0);
    graph.origin.push(origin);
    return (graph.op.length - 1) * 2;
  }

  #gate(op: number, inputs: Literal[], atLeast: number, origin: number): Literal {
    inputs.sort((a, b) => a - b);
    const key = `${op} ${atLeast} ${inputs.join(" ")}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const { graph } = this;
    graph.op.push(op);
    graph.inputs.push(Int32Array.from(inputs));
    graph.atLeast.push(atLeast);
    graph.origin.push(origin);
    const literal = (graph.op.length - 1) * 2;
    this.#known.set(key, literal);
    return literal;
  }

  or(inputs: readonly Literal[], origin: number): Literal {
    return this.#junction(OP_OR, inputs, origin);
  }
  and(inputs: readonly Literal[], origin: number): Literal {
    return this.#junction(OP_AND, inputs, origin);
  }
  #junction(op: number, inputs: readonly Literal[], origin: number): Literal {
    const [neutral, absorbing] = op === OP_AND ? [TRUE, FALSE] : [FALSE, TRUE];
    const seen = new Set<Literal>();
    for (const input of inputs) {
      if (input === neutral) continue;
      if (input === absorbing || seen.has(negate(input))) return absorbing;
      seen.add(input);
    }
    if (seen.size === 0) return neutral;
    if (seen.size === 1) return [...seen][0] as Literal;
    return this.#gate(op, [...seen], 0, origin);
  }
  xor(inputs: readonly Literal[], origin: number): Literal {
    let flip = 0;
    const odd = new Set<Literal>();
    for (const input of inputs) {
      flip ^= input & 1;
      const positive = input & ~1;
      if (positive === TRUE) flip ^= 1;
      else if (odd.has(positive)) odd.delete(positive);
      else odd.add(positive);
    }
    // `flip` counts negations and true constants: a negated false is a true.
    if (odd.size === 0) return FALSE ^ flip;
    if (odd.size === 1) return ([...odd][0] as Literal) ^ flip;
    return this.#gate(OP_XOR, [...odd], 0, origin) ^ flip;
  }
  atLeast(k: number, inputs: readonly Literal[], origin: number): Literal {
    const rest: Literal[] = [];
    let needed = k;
    for (const input of inputs) {
      if (input === TRUE) needed--;
      else if (input !== FALSE) rest.push(input);
    }
    if (needed <= 0) return TRUE;
    if (needed > rest.length) return FALSE;
    if (needed === 1) return this.or(rest, origin);
    if (needed === rest.length) return this.and(rest, origin);
    const variables = new Set(rest.map((literal) => literal >> 1));
    if (variables.size === rest.length) return this.#gate(OP_ATLEAST, rest, needed, origin);
    // The same input twice counts twice: a decision on it leaves two smaller votes.
    const twice = rest.find(
      (literal, i) => rest.findIndex((other) => other >> 1 === literal >> 1) !== i,
    ) as Literal;
    const others = rest.filter((literal) => literal >> 1 !== twice >> 1);
    const count = rest.filter((literal) => literal === twice).length;
    const negated = rest.filter((literal) => literal === negate(twice)).length;
    const [if1, if0] = [
      this.atLeast(needed - count, others, origin),
      this.atLeast(needed - negated, others, origin),
    ];
    return this.or(
      [this.and([twice, if1], origin), this.and([negate(twice), if0], origin), this.and([if1, if0], origin)],
      origin,
    );
  }
}

function makeGate(
  build: Builder,
  gate: GateKind,
  k: number,
  inputs: readonly Literal[],
  origin: number,
): Literal {
  switch (gate) {
    case "and":
      return build.and(inputs, origin);
    case "or":
      return build.or(inputs, origin);
    case "nand":
      return negate(build.and(inputs, origin));
    case "nor":
      return negate(build.or(inputs, origin));
    case "not":
      return negate(inputs[0] ?? TRUE);
    case "is":
      return inputs[0] ?? FALSE;
    case "xor":
      return build.xor(inputs, origin);
    case "atleast":
      return build.atLeast(k, inputs, origin);
    default:
      return unreachable(gate);
  }
}

/** `order` as FaultTree.order gives it. */
export function simplify(tree: FaultTree, order: Int32Array): Graph {
  const build = new Builder();
  const made = new Map<number, Literal>([[0, TRUE]]);
  const literalOf = (literal: Literal): Literal => (made.get(literal >> 1) as Literal) ^ (literal & 1);
  for (const index of order) {
    const node = tree.nodes[index];
    if (node?.kind === "event") {
      made.set(index, build.event(index));
    } else if (node?.kind === "gate") {
      made.set(index, makeGate(build, node.gate, node.atLeast, node.inputs.map(literalOf), index));
    }
  }
  build.graph.top = literalOf(tree.top);
  return merge(build.graph);
}

/** Drops what the top does not reach, merges a gate into its only parent of the same kind, pushes
 * negations of and/or down where the gate is used in one polarity only, and finds whether it is coherent. */
function merge(graph: Graph): Graph {
  const positive = polarityNormal(graph);
  const build = new Builder();
  const count = positive.op.length;
  const parents = new Int32Array(count);
  for (let node = 1; node < count; node++)
    for (const input of positive.inputs[node]!) parents[input >> 1] = parents[input >> 1]! + 1;
  const made = new Int32Array(count);
  // A gate with one parent of its own kind is spliced into it: its inputs wait in `spliced`.
  const spliced = new Map<number, number[]>();
  const onlyParent = new Int32Array(count).fill(-1);
  for (let node = 1; node < count; node++)
    for (const input of positive.inputs[node]!) if ((input & 1) === 0) onlyParent[input >> 1] = node;
  for (let node = 1; node < count; node++) {
    const op = positive.op[node]!;
    if (op === OP_EVENT) {
      made[node] = build.event(positive.origin[node]!);
      continue;
    }
    const inputs: number[] = [];
    for (const input of positive.inputs[node]!) {
      const splice = (input & 1) === 0 ? spliced.get(input >> 1) : undefined;
      if (splice === undefined) inputs.push(input >> 1 === 0 ? input : made[input >> 1]! ^ (input & 1));
      else for (const inner of splice) inputs.push(inner);
    }
    const parent = onlyParent[node]!;
    if (
      parents[node] === 1 &&
      parent > 0 &&
      positive.op[parent] === op &&
      (op === OP_AND || op === OP_OR) &&
      node !== positive.top >> 1
    ) {
      spliced.set(node, inputs);
      continue;
    }
    const origin = positive.origin[node]!;
    if (op === OP_AND) made[node] = build.and(inputs, origin);
    else if (op === OP_OR) made[node] = build.or(inputs, origin);
    else if (op === OP_XOR) made[node] = build.xor(inputs, origin);
    else made[node] = build.atLeast(positive.atLeast[node]!, inputs, origin);
  }
  const result = build.graph;
  const top = positive.top;
  result.top = top >> 1 === 0 ? top : made[top >> 1]! ^ (top & 1);
  result.coherent = (result.top & 1) === 0 || result.top === FALSE;
  for (let node = 1; node < result.op.length; node++) {
    if (result.op[node] === OP_XOR) result.coherent = false;
    for (const input of result.inputs[node]!) if (input & 1) result.coherent = false;
  }
  return result;
}

/** Negation normal form: only events and xor keep negated uses; a gate used both ways is made twice. */
function polarityNormal(graph: Graph): Graph {
  const build = new Builder();
  const made = new Map<Literal, Literal>([
    [TRUE, TRUE],
    [FALSE, FALSE],
  ]);
  const work: Literal[] = [graph.top];
  while (work.length > 0) {
    const literal = work[work.length - 1] as Literal;
    if (made.has(literal)) {
      work.pop();
      continue;
    }
    const node = literal >> 1;
    const op = graph.op[node]!;
    const inputs = graph.inputs[node]!;
    if (op === OP_EVENT) {
      const event = build.event(graph.origin[node]!);
      made.set(node * 2, event);
      made.set(node * 2 + 1, negate(event));
      continue;
    }
    const flip = op === OP_XOR ? 0 : literal & 1;
    let ready = true;
    for (let i = inputs.length - 1; i >= 0; i--) {
      if (made.has(inputs[i]! ^ flip)) continue;
      work.push(inputs[i]! ^ flip);
      ready = false;
    }
    if (!ready) continue;
    const done = Array.from(inputs, (input) => made.get(input ^ flip) as Literal);
    const origin = graph.origin[node]!;
    if (op === OP_XOR) {
      const value = build.xor(done, origin);
      made.set(node * 2, value);
      made.set(node * 2 + 1, negate(value));
    } else if (op === OP_ATLEAST) {
      // not (at least k of n) = at least n - k + 1 of the negated
      const k = graph.atLeast[node]!;
      made.set(literal, build.atLeast(flip ? inputs.length - k + 1 : k, done, origin));
    } else {
      made.set(literal, (op === OP_AND) === (flip === 0) ? build.and(done, origin) : build.or(done, origin));
    }
  }
  build.graph.top = made.get(graph.top) as Literal;
  return build.graph;
}
