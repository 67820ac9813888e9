/**
 * The model while it is made: the tree, its events and the table of inputs. Every part of the site writes its
 * events here, so that no number reaches the tree without a name and an origin. Hours inside.
 */
import type { Site } from "../../contracts/site.ts";
import { FaultTree, type Literal } from "../engine/tree.ts";
import { DEFAULT_BETA, DEFAULT_RATES, type RatedKind } from "./defaults.ts";
import type { Measured } from "./measured.ts";
import type { EventInfo, ModelInput, Origin } from "./site-model.ts";
import { HOUR, sayRates } from "./words.ts";

export interface BuildOptions {
  readonly measured?: Measured | undefined;
  /** Names of machines, zones, feeds, switches or dependencies that are taken to be down. */
  readonly without?: readonly string[] | undefined;
}

/** Milliseconds, as in the site file. */
export interface OwnRates {
  readonly mtbf: number;
  readonly mttr: number;
}

export interface Component {
  readonly literal: Literal;
  /** Failures per hour. */
  readonly rate: number;
  readonly unavailability: number;
}

export class Workbook {
  readonly site: Site;
  readonly measured: Measured | undefined;
  readonly tree = new FaultTree();
  readonly events = new Map<number, EventInfo>();
  readonly #without: ReadonlySet<string>;
  readonly #inputs = new Map<string, ModelInput>();

  constructor(site: Site, options: BuildOptions) {
    this.site = site;
    this.measured = options.measured;
    this.#without = new Set(options.without);
  }

  get inputs(): ModelInput[] {
    return [...this.#inputs.values()];
  }

  /** Whether a part of this name is taken to be down. */
  isDown(name: string): boolean {
    return this.#without.has(name);
  }

  event(info: Omit<EventInfo, "node">): Literal {
    const { rate, duration } = info;
    const failing = info.class === "component";
    // A component alternates between up and down; the others are shares of time.
    const probability = failing ? (rate * duration) / (1 + rate * duration) : Math.min(1, rate * duration);
    const literal = this.tree.event(info.name, probability);
    this.events.set(literal >> 1, { ...info, node: literal >> 1 });
    return literal;
  }

  /** The first use of a key counts: what is used again is the same number. */
  input(key: string, what: string, value: string, origin: Origin, source: string): void {
    if (!this.#inputs.has(key)) this.#inputs.set(key, { what, value, origin, source });
  }

  /** A thing that breaks: by its own rates, else by those of its kind in the site file, else by the default. */
  component(owner: string, kind: RatedKind, name: string, own?: OwnRates): Component {
    const { rate, duration, origin } = this.#rates(kind, own);
    const literal = this.event({ name, class: "component", owner, kind, rate, duration, origin });
    return { literal, rate, unavailability: rate * duration };
  }

  #rates(kind: RatedKind, own?: OwnRates): { rate: number; duration: number; origin: Origin } {
    const configured = own ?? this.site.availability.rates[kind];
    if (configured === undefined) {
      const { mtbf, mttr, source } = DEFAULT_RATES[kind];
      this.input(kind, kind, sayRates(mtbf, mttr), "default", source);
      return { rate: 1 / mtbf, duration: mttr, origin: "default" };
    }
    const [mtbf, mttr] = [configured.mtbf / HOUR, configured.mttr / HOUR];
    if (own === undefined) this.input(kind, kind, sayRates(mtbf, mttr), "configured", "site file");
    return { rate: 1 / mtbf, duration: mttr, origin: "configured" };
  }

  /** The share of failures that take all of a kind at once. */
  get beta(): number {
    return this.site.availability.failover.beta ?? DEFAULT_BETA.value;
  }
}
