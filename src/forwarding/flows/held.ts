/** What a node's store knows of one flow. */
import type { MonotonicMs } from "../../base/time.ts";
import type { Word } from "./machine-terms.ts";
import type { FlowRecord } from "./wire.ts";

export const SELF = Symbol("self");
/** Found in the kernel at start; nobody has claimed it yet. */
export const UNCLAIMED = Symbol("unclaimed");

export interface Held {
  owner: string | typeof SELF | typeof UNCLAIMED;
  flow: FlowRecord;
  /** In which a peer said it. What we say of our own counts as of our term of its router. */
  term: number;
  /** The owner's snapshot that told of it last. */
  generation: number;
  /** When the kernel must be given more time, since no packet does (a peer's flows). */
  prolongAt: MonotonicMs;
  /** The kernel lost a peer's flow: put it back at the next round. */
  missing: boolean;
  /**
   * While two nodes are Active (make-before-break, a split brain) both own it, and neither insists at once: what the
   * other said is kept, and where it is the later word, the other is the owner once we are not Active any more. `at`:
   * when it was answered.
   */
  claim:
    | { readonly peer: string; readonly flow: FlowRecord; readonly word: Word; readonly at: MonotonicMs }
    | undefined;
  /** Another node spoke of what is ours: said once more in a while, since third nodes may have heard that one last. */
  again: boolean;
  /** Ours, but a peer has said that it ended, and our kernel nothing since. */
  doubted: boolean;
}
