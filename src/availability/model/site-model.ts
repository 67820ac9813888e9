/** What the site becomes: a fault tree, what each of its events stands for, and where each number came from. */
import type { Site } from "../../contracts/site.ts";
import type { FaultTree, Literal } from "../engine/tree.ts";

/** Where a number comes from, in order of trust. */
export type Origin = "drilled" | "configured" | "computed" | "default";

/** component: a thing that breaks. The rest are what the naive product forgets. */
export type EventClass =
  "component" | "takeover" | "failed takeover" | "common cause" | "undetected" | "repair";

export interface EventInfo {
  readonly node: number;
  readonly name: string;
  readonly class: EventClass;
  /** What it belongs to: a machine, a zone, a router, a pool. */
  readonly owner: string;
  readonly kind: string;
  /** Begins this often per hour. */
  readonly rate: number;
  /** Lasts this long, in hours. */
  readonly duration: number;
  readonly origin: Origin;
}

/** A number that went into the model, for the table of inputs. */
export interface ModelInput {
  readonly what: string;
  readonly value: string;
  readonly origin: Origin;
  readonly source: string;
}

/**
 * One part of the site as two sets of failures: what brings it down in truth, and what the naive product of
 * machines would say.
 */
export interface Part {
  readonly honest: readonly Literal[];
  readonly naive: Literal;
}

export interface ServiceTops {
  readonly service: string;
  readonly honest: Literal;
  readonly naive: Literal;
  readonly router: string | undefined;
  readonly pools: readonly string[];
}

export interface SiteModel {
  readonly site: Site;
  readonly tree: FaultTree;
  readonly services: readonly ServiceTops[];
  readonly events: ReadonlyMap<number, EventInfo>;
  readonly inputs: readonly ModelInput[];
}
