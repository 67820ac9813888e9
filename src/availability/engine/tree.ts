/**
 * A fault tree: basic events with probabilities, gates over them, one top. Nodes are numbered; a literal is
 * `node * 2 + negated`, so that a negation is one bit. Node 0 is the constant true.
 */
import type { Result } from "../../base/result.ts";
import { fail, ok } from "../../base/result.ts";

export type GateKind = "and" | "or" | "atleast" | "not" | "xor" | "nand" | "nor" | "is";

/** `node * 2`, plus 1 where negated. */
export type Literal = number;
export const TRUE: Literal = 0;
export const FALSE: Literal = 1;
export const negate = (literal: Literal): Literal => literal ^ 1;

export type TreeNode =
  | { readonly kind: "constant"; readonly name: string }
  | { readonly kind: "event"; readonly name: string; probability: number }
  | { readonly kind: "gate"; readonly name: string; gate: GateKind; atLeast: number; inputs: Literal[] };

/** Why a tree cannot be analysed; `node` names the culprit. */
export interface TreeFault {
  readonly node: string;
  readonly message: string;
}

/** Nodes are added one by one; gates may be declared before what they are made of is known. */
export class FaultTree {
  readonly nodes: TreeNode[] = [{ kind: "constant", name: "true" }];
  top: Literal = FALSE;

  /** A basic event; `probability` of being failed, 0..1. */
  event(name: string, probability: number): Literal {
    this.nodes.push({ kind: "event", name, probability });
    return (this.nodes.length - 1) * 2;
  }
  /** A gate whose inputs come later by `define`. Until then it is an or of nothing: false. */
  declare(name: string): Literal {
    this.nodes.push({ kind: "gate", name, gate: "or", atLeast: 0, inputs: [] });
    return (this.nodes.length - 1) * 2;
  }
  define(literal: Literal, gate: GateKind, inputs: readonly Literal[], atLeast = 0): void {
    const node = this.nodes[literal >> 1];
    if (node?.kind !== "gate") throw new RangeError("only a declared gate can be defined");
    node.gate = gate;
    node.atLeast = atLeast;
    node.inputs = [...inputs];
  }
  gate(name: string, kind: GateKind, inputs: readonly Literal[], atLeast = 0): Literal {
    const literal = this.declare(name);
    this.define(literal, kind, inputs, atLeast);
    return literal;
  }
  and(name: string, ...inputs: Literal[]): Literal {
    return this.gate(name, "and", inputs);
  }
  or(name: string, ...inputs: Literal[]): Literal {
    return this.gate(name, "or", inputs);
  }
  nameOf(literal: Literal): string {
    return this.nodes[literal >> 1]?.name ?? "";
  }
  /** Of a basic event's node. */
  probabilityOf(node: number): number {
    const value = this.nodes[node];
    return value?.kind === "event" ? value.probability : 0;
  }

  /** Nodes reachable from the top, inputs before the gates that use them; or the cycle that forbids it. */
  order(): Result<Int32Array, TreeFault> {
    const count = this.nodes.length;
    const state = new Uint8Array(count); // 0 new, 1 on the path, 2 done
    const result = new Int32Array(count);
    const path: number[] = [];
    const next: number[] = [];
    let done = 0;
    const enter = (node: number): void => {
      state[node] = 1;
      path.push(node);
      next.push(0);
    };
    enter(this.top >> 1);
    while (path.length > 0) {
      const node = path[path.length - 1] as number;
      const at = next[next.length - 1] as number;
      const value = this.nodes[node] as TreeNode;
      if (value.kind !== "gate" || at >= value.inputs.length) {
        state[node] = 2;
        result[done++] = node;
        path.pop();
        next.pop();
        continue;
      }
      next[next.length - 1] = at + 1;
      const child = (value.inputs[at] as Literal) >> 1;
      if (state[child] === 0) enter(child);
      else if (state[child] === 1) return fail(this.#cycle(path, child));
    }
    return ok(result.subarray(0, done));
  }

  #cycle(path: readonly number[], back: number): TreeFault {
    const names = path.slice(path.indexOf(back)).map((node) => this.nodes[node]?.name ?? "");
    const shown = names.length > 8 ? [...names.slice(0, 4), "...", ...names.slice(-3)] : names;
    return {
      node: names[0] ?? "",
      message: `the tree is cyclic: ${[...shown, names[0] ?? ""].join(" -> ")}`,
    };
  }
}
