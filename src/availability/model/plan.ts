/** A site in, everything that `nines plan` says out. Shares of time are unavailabilities; times are hours. */
import type { DrillReport } from "../../contracts/drills.ts";
import type { Site } from "../../contracts/site.ts";
import { type Analysis, analyse } from "../engine/analysis.ts";
import { drawNormal } from "../engine/random-variates.ts";
import type { Literal } from "../engine/tree.ts";
import { sampleTop } from "../engine/uncertainty.ts";
import { buildSiteModel } from "./build.ts";
import { type PoolCapacity, planCapacity } from "./capacity.ts";
import { possibleChanges } from "./changes.ts";
import { ERROR_FACTORS } from "./defaults.ts";
import { type GapComparison, compareGaps } from "./gaps.ts";
import { readMeasured } from "./measured.ts";
import type { EventClass, EventInfo, ModelInput, ServiceTops, SiteModel } from "./site-model.ts";
import { YEAR_HOURS } from "./words.ts";
import { type WindowOutlook, simulateWindows } from "./windows.ts";

export interface PlannedCutSet {
  readonly events: readonly string[];
  readonly unavailability: number;
  /** Of all of this service's. */
  readonly share: number;
}

export interface SinglePoint {
  readonly name: string;
  readonly kind: string;
  readonly unavailability: number;
  readonly perYear: number;
  readonly share: number;
}

export interface Improvement {
  readonly what: string;
  readonly from: number;
  readonly to: number;
}

export interface TargetVerdict extends WindowOutlook {
  readonly slo: number;
  readonly windowHours: number;
  /** Whether the long-run average keeps the promise. */
  readonly kept: boolean;
  readonly credits: readonly { readonly below: number; readonly credit: number }[];
  /** Expected per window, in `currency`; undefined where the site file states no bill or cost. */
  readonly creditCost?: number | undefined;
  readonly outageCost?: number | undefined;
  readonly currency: string;
}

export interface PlannedService {
  readonly service: string;
  readonly naive: number;
  readonly unavailability: number;
  /** Where the model is too large for an exact answer, else both ends equal. */
  readonly bounds: { readonly lower: number; readonly upper: number };
  readonly exact: boolean;
  /** 5 % and 95 % of the trials over uncertain inputs. */
  readonly interval?: readonly [number, number] | undefined;
  readonly outagesPerYear?: number | undefined;
  readonly byClass: readonly {
    readonly class: EventClass;
    readonly unavailability: number;
    readonly perYear: number;
  }[];
  readonly singlePoints: readonly SinglePoint[];
  readonly cutSets: readonly PlannedCutSet[];
  /** How many there are by order, from order 0; absent where they were too many to count. */
  readonly cutSetsByOrder?: readonly number[] | undefined;
  readonly improvements: readonly Improvement[];
  readonly target?: TargetVerdict | undefined;
}

export interface Plan {
  readonly site: string;
  readonly without: readonly string[];
  readonly basicEvents: number;
  readonly services: readonly PlannedService[];
  readonly capacity: readonly PoolCapacity[];
  readonly inputs: readonly ModelInput[];
  readonly gaps: readonly GapComparison[];
}

export interface PlanOptions {
  readonly reports?: readonly DrillReport[] | undefined;
  readonly without?: readonly string[] | undefined;
  /** Cut sets to list per service. Default 8. */
  readonly worst?: number | undefined;
  /** Whether to try changes and uncertainty, which plan the site again and again. Default true. */
  readonly deep?: boolean | undefined;
}

/** Beyond this many events, changes are not tried: each is another plan. */
const DEEP_EVENTS = 2000;

export function planSite(site: Site, options: PlanOptions = {}): Plan & { readonly model: SiteModel } {
  const measured = options.reports === undefined ? undefined : readMeasured(options.reports);
  const { without } = options;
  const model = buildSiteModel(site, { measured, without });
  const deep = (options.deep ?? true) && model.events.size <= DEEP_EVENTS;
  const unavailabilityOf = (changed: Site, service: string): number => {
    const other = buildSiteModel(changed, { measured, without });
    const tops = other.services.find((one) => one.service === service);
    return tops === undefined ? 1 : analysisOf(other, tops.honest).probability;
  };
  const services = model.services.map((tops): PlannedService => {
    const base = planService(model, tops, options.worst ?? 8, deep);
    if (!deep) return base;
    const improvements = possibleChanges(
      site,
      tops.router,
      tops.pools,
      tops.service,
      measured?.coverage !== undefined,
    )
      .map(({ what, site: changed }) => ({
        what,
        from: base.unavailability,
        to: unavailabilityOf(changed, tops.service),
      }))
      .filter(({ from, to }) => to < from * 0.995)
      .sort((a, b) => a.to - b.to);
    return { ...base, improvements };
  });
  return {
    site: site.site,
    without: without ?? [],
    basicEvents: model.events.size,
    services,
    capacity: planCapacity(site),
    inputs: model.inputs,
    gaps: compareGaps(site, options.reports ?? []),
    model,
  };
}

function analysisOf(model: SiteModel, top: Literal): Analysis {
  model.tree.top = top;
  const result = analyse(model.tree);
  // The builder makes no cycles: this would be a bug.
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

function planService(model: SiteModel, tops: ServiceTops, worst: number, deep: boolean): PlannedService {
  const naive = analysisOf(model, tops.naive).probability;
  const analysis = analysisOf(model, tops.honest);
  const { probability } = analysis;
  const birnbaum = new Map(analysis.importance().map((one) => [one.event, one.birnbaum]));
  const infos = [...model.events.values()].filter((info) => birnbaum.has(info.node));
  const rateOf = (info: EventInfo): number => info.rate * (birnbaum.get(info.node) ?? 0);
  const byClass = new Map<EventClass, { unavailability: number; perYear: number }>();
  for (const info of infos) {
    const sum = byClass.get(info.class) ?? { unavailability: 0, perYear: 0 };
    byClass.set(info.class, {
      unavailability: sum.unavailability + rateOf(info) * info.duration,
      perYear: sum.perYear + rateOf(info) * YEAR_HOURS,
    });
  }
  // An order-2 outage is counted from both of its events: scaled so that the classes add up to the whole.
  const counted = [...byClass.values()].reduce((sum, part) => sum + part.unavailability, 0);
  const components = byClass.get("component");
  if (components !== undefined) components.unavailability -= Math.max(0, counted - probability);
  const sets = analysis.cutSets({ maxOrder: 6, cutOff: probability * 1e-9 });
  const listed = sets.ok ? sets.value.worst(worst + 64) : [];
  const nameOf = (node: number): string => model.events.get(node)?.name ?? "";
  const singlePoints = listed
    .filter(({ events }) => events.length === 1 && model.events.get(events[0]!)?.class === "component")
    .map(({ events, probability: p }): SinglePoint => {
      const info = model.events.get(events[0]!)!;
      return {
        name: info.name,
        kind: info.kind,
        unavailability: p,
        perYear: info.rate * YEAR_HOURS,
        share: p / probability,
      };
    });
  return {
    service: tops.service,
    naive,
    unavailability: probability,
    bounds: analysis.bounds,
    exact: analysis.exact,
    interval: deep ? intervalOf(model, analysis) : undefined,
    // A dead backend not yet noticed is a share of an outage, not one.
    outagesPerYear: analysis.exact
      ? infos.reduce((sum, info) => sum + (info.class === "undetected" ? 0 : rateOf(info) * YEAR_HOURS), 0)
      : undefined,
    byClass: [...byClass]
      .map(([name, part]) => ({ class: name, ...part }))
      .sort((a, b) => b.unavailability - a.unavailability),
    singlePoints,
    cutSets: listed.slice(0, worst).map(({ events, probability: p }) => ({
      events: events.map(nameOf),
      unavailability: p,
      share: p / probability,
    })),
    cutSetsByOrder: sets.ok ? sets.value.byOrder : undefined,
    improvements: [],
    target: verdict(model, tops.service, probability, infos, rateOf),
  };
}

/** The same error for all of a kind: what is not known about servers is not known about any of them. */
function intervalOf(model: SiteModel, analysis: Analysis): readonly [number, number] | undefined {
  if (analysis.evaluator === undefined) return undefined;
  const { tree, events } = model;
  const result = sampleTop(
    analysis.evaluator,
    (random) => {
      const factors = new Map<string, number>();
      return (node) => {
        const p = tree.probabilityOf(node);
        const info = events.get(node);
        if (info === undefined || info.origin === "drilled") return p;
        const sigma =
          Math.log(info.origin === "default" ? ERROR_FACTORS.default : ERROR_FACTORS.configured) / 1.645;
        let factor = factors.get(info.kind);
        if (factor === undefined) {
          // Mean 1, so that the point value stays the mean.
          factor = Math.exp(sigma * drawNormal(random) - (sigma * sigma) / 2);
          factors.set(info.kind, factor);
        }
        return Math.min(1, p * factor);
      };
    },
    { trials: 1000, seed: 1 },
  );
  return [result.quantile(0.05), result.quantile(0.95)];
}

function verdict(
  model: SiteModel,
  service: string,
  unavailability: number,
  infos: readonly EventInfo[],
  rateOf: (info: EventInfo) => number,
): TargetVerdict | undefined {
  const target = model.site.availability.targets[service];
  if (target === undefined) return undefined;
  const windowHours = target.window / 3_600_000;
  const expected = infos.reduce((sum, info) => sum + rateOf(info) * info.duration, 0);
  const scale = expected === 0 ? 0 : unavailability / expected;
  const sources = infos.map((info) => ({
    rate: rateOf(info),
    duration: info.duration * scale,
    constant: info.class === "takeover" || info.class === "undetected",
  }));
  const outlook = simulateWindows(sources, windowHours, target.slo, target.credits);
  return {
    ...outlook,
    slo: target.slo,
    windowHours,
    kept: 100 * (1 - unavailability) >= target.slo,
    credits: target.credits,
    creditCost: target.bill === undefined ? undefined : (target.bill * outlook.meanCredit) / 100,
    outageCost: target.hour === undefined ? undefined : target.hour * windowHours * unavailability,
    currency: model.site.availability.currency,
  };
}
