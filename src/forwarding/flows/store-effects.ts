/** What the store wants done, in this order: delete, create, update, lifetime, then tell. */
import type { Flow, FlowPlan } from "../../linux/wire-conntrack.ts";
import type { Ended } from "./machine-flow.ts";
import type { News } from "./machine-outgoing.ts";

export interface Told extends News {
  readonly key: string;
}

export interface StoreEffects {
  readonly delete: Ended[];
  readonly create: FlowPlan[];
  readonly update: FlowPlan[];
  /**
   * Another time to live and nothing else: of what this node's own kernel judges, or nobody vouches for. A state would
   * bring a connection back to life that was closed a moment ago.
   */
  readonly lifetime: FlowPlan[];
  readonly tell: Told[];
}

/** Where the kernel refuses a flow for another one: what it is to be rid of first, and what is told. */
export interface Clash extends Pick<StoreEffects, "tell"> {
  readonly delete: readonly Flow[];
}

export interface Upkeep extends Pick<StoreEffects, "tell"> {
  readonly prolong: readonly FlowPlan[];
  readonly create: readonly FlowPlan[];
}

export const nothing = (): StoreEffects => ({
  delete: [],
  create: [],
  update: [],
  lifetime: [],
  tell: [],
});
