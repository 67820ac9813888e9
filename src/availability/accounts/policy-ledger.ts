/** From facts to figures: when a service was down, why, over which windows, and how fast the budget burns. */
import { type Fact, WATCH_GAP, instantOf } from "./facts.ts";

/** Half-open, in wall-clock ms. */
export interface Interval {
  readonly from: number;
  readonly to: number;
}
export interface Outage extends Interval {
  readonly cause: string;
}

export interface Ledger {
  readonly service: string;
  /** In order, without overlap. The last may be going on: then `to` is the instant of the ledger. */
  readonly outages: readonly Outage[];
  readonly ongoing: boolean;
  readonly observed: readonly Interval[];
  readonly requests: readonly (Interval & { readonly good: number; readonly bad: number })[];
}

/** `now` ends what is still going on. Facts in the order of time. */
export function keepLedger(service: string, facts: readonly Fact[], now: number): Ledger {
  const chains = facts.flatMap((fact) =>
    fact.kind === "watch"
      ? [{ from: fact.at, to: fact.at }]
      : fact.kind === "watched"
        ? [{ from: fact.from, to: fact.to }]
        : [],
  );
  const observed = joinIntervals(
    chains.length === 0
      ? [{ from: Number.NEGATIVE_INFINITY, to: now }]
      : chains.map(({ from, to }, i) => {
          const next = chains[i + 1]?.from ?? now;
          return { from, to: next - to <= WATCH_GAP ? Math.max(to, next) : to };
        }),
  ).filter(({ from, to }) => to > from);
  const outages: Outage[] = [];
  const requests: (Interval & { good: number; bad: number })[] = [];
  let open: { from: number; cause: string } | undefined;
  for (const fact of facts) {
    if (fact.kind === "watch" || fact.kind === "watched" || fact.service !== service || instantOf(fact) > now)
      continue;
    if (fact.kind === "down") open ??= { from: fact.at, cause: fact.cause };
    else if (fact.kind === "up") {
      if (open) outages.push({ ...open, to: fact.at });
      open = undefined;
    } else if (fact.kind === "outage") outages.push({ from: fact.from, to: fact.to, cause: fact.cause });
    else requests.push({ from: fact.from, to: fact.to, good: fact.good, bad: fact.bad });
  }
  if (open) outages.push({ ...open, to: now });
  return {
    service,
    outages: joinOutages(outages, observed),
    ongoing: open !== undefined,
    observed,
    requests,
  };
}

/** Down time is what was seen: where nobody looked, nothing is claimed. Outages entered by hand count whole. */
function joinOutages(outages: readonly Outage[], observed: readonly Interval[]): Outage[] {
  const sorted = outages
    .flatMap((outage) => {
      const seen = cut(outage, observed);
      return seen.length === 0 ? [outage] : seen.map((part) => ({ ...part, cause: outage.cause }));
    })
    .filter(({ from, to }) => to > from)
    .sort((a, b) => a.from - b.from);
  const result: Outage[] = [];
  for (const outage of sorted) {
    const last = result.at(-1);
    if (last !== undefined && outage.from < last.to) {
      const cause = last.cause === outage.cause ? last.cause : `${last.cause}; ${outage.cause}`;
      result[result.length - 1] = { from: last.from, to: Math.max(last.to, outage.to), cause };
    } else result.push(outage);
  }
  return result;
}

function joinIntervals(intervals: readonly Interval[]): Interval[] {
  const result: Interval[] = [];
  for (const one of [...intervals].sort((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    if (last !== undefined && one.from <= last.to)
      result[result.length - 1] = { from: last.from, to: Math.max(last.to, one.to) };
    else result.push(one);
  }
  return result;
}

/** The parts of `one` within `others`, which are joined and in order. */
const cut = (one: Interval, others: readonly Interval[]): Interval[] =>
  others
    .map((other) => ({ from: Math.max(one.from, other.from), to: Math.min(one.to, other.to) }))
    .filter(({ from, to }) => to > from);
const lengthOf = (intervals: readonly Interval[]): number =>
  intervals.reduce((sum, { from, to }) => sum + (to - from), 0);
const overlap = (one: readonly Interval[], other: readonly Interval[]): number =>
  one.reduce((sum, part) => sum + lengthOf(cut(part, other)), 0);

export interface WindowFigures {
  readonly from: number;
  readonly to: number;
  /** ms that somebody looked, planned maintenance left out. */
  readonly observed: number;
  readonly unobserved: number;
  readonly down: number;
  readonly planned: number;
  /** Down time during planned maintenance: shown, not counted. */
  readonly plannedDown: number;
  /** 1 - down / observed; undefined where nobody looked. */
  readonly byTime?: number | undefined;
  readonly good: number;
  readonly bad: number;
  /** good / (good + bad); undefined without requests. */
  readonly byRequests?: number | undefined;
  readonly outages: readonly Outage[];
}

export function figures(
  ledger: Ledger,
  window: Interval,
  maintenance: readonly Interval[] = [],
): WindowFigures {
  const whole = [window];
  const plannedParts = joinIntervals(maintenance.flatMap((one) => cut(one, whole)));
  const seen = ledger.observed.flatMap((one) => cut(one, whole));
  const planned = lengthOf(plannedParts);
  const outages = ledger.outages.flatMap((outage) =>
    cut(outage, whole).map((part) => ({ ...part, cause: outage.cause })),
  );
  const plannedDown = overlap(outages, plannedParts);
  const down = lengthOf(outages) - plannedDown;
  const observed = lengthOf(seen) - overlap(plannedParts, seen);
  let good = 0;
  let bad = 0;
  for (const one of ledger.requests) {
    if (one.to <= window.from || one.to > window.to) continue;
    if (plannedParts.some(({ from, to }) => one.from >= from && one.to <= to)) continue;
    good += one.good;
    bad += one.bad;
  }
  return {
    ...window,
    observed,
    unobserved: window.to - window.from - lengthOf(seen),
    down,
    planned,
    plannedDown,
    byTime: observed > 0 ? Math.max(0, 1 - down / observed) : undefined,
    good,
    bad,
    byRequests: good + bad > 0 ? good / (good + bad) : undefined,
    outages,
  };
}

/**
 * What counts: the worse of time and requests. Requests are what users feel; but who meets no node at all is
 * counted by none.
 */
export const errorRatio = (one: WindowFigures): number | undefined => {
  const ratios = [one.byTime, one.byRequests].flatMap((each) => (each === undefined ? [] : 1 - each));
  return ratios.length === 0 ? undefined : Math.max(...ratios);
};

export interface Budget {
  /** ms of down time (or the same share of requests) that the window allows. */
  readonly total: number;
  /** Share of it that is used; above 1 it is overdrawn. */
  readonly used: number;
  readonly left: number;
}

export function budgetOf(one: WindowFigures, slo: number): Budget {
  const allowed = 1 - slo / 100;
  const total = (one.to - one.from) * allowed;
  // Time nobody saw is not spent: the share that was seen is.
  const byTime = ((1 - (one.byTime ?? 1)) * one.observed) / (one.to - one.from);
  const ratio = Math.max(byTime, 1 - (one.byRequests ?? 1));
  const used = allowed === 0 ? (ratio > 0 ? Number.POSITIVE_INFINITY : 0) : ratio / allowed;
  return { total, used, left: total * (1 - used) };
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Google's SRE workbook: a page when 2 % of a 30-day budget goes in 1 h or 5 % in 6 h, a ticket for 10 % in 3 d. */
const RULES = [
  { severity: "page", long: HOUR, short: 5 * MINUTE, spent: 0.02 },
  { severity: "page", long: 6 * HOUR, short: 30 * MINUTE, spent: 0.05 },
  { severity: "ticket", long: 72 * HOUR, short: 6 * HOUR, spent: 0.1 },
] as const;

export interface BurnAlert {
  readonly severity: "page" | "ticket";
  /** Windows in ms. */
  readonly long: number;
  readonly short: number;
  /** Burn rate from which it fires: 14.4, 6 and 1 for 30 days. */
  readonly threshold: number;
  readonly longRate: number;
  readonly shortRate: number;
  readonly firing: boolean;
}

/** Burn rate 1 spends exactly the budget over the whole window. Both windows must burn: it ends soon after. */
export function burnAlerts(
  ledger: Ledger,
  slo: number,
  window: number,
  now: number,
  maintenance: readonly Interval[] = [],
): BurnAlert[] {
  const allowed = 1 - slo / 100;
  const rate = (span: number): number => {
    const ratio = errorRatio(figures(ledger, { from: now - span, to: now }, maintenance)) ?? 0;
    return allowed === 0 ? (ratio > 0 ? Number.POSITIVE_INFINITY : 0) : ratio / allowed;
  };
  return RULES.filter(({ long }) => long < window).map(({ severity, long, short, spent }) => {
    // The same share of the budget in the same time: for another window another rate, but never below 1.
    const threshold = Math.max(1, (spent * window) / long);
    const [longRate, shortRate] = [rate(long), rate(short)];
    return {
      severity,
      long,
      short,
      threshold,
      longRate,
      shortRate,
      firing: longRate >= threshold && shortRate >= threshold,
    };
  });
}

/**
 * Facts of several nodes as those of one: who saw an outage saw it, whatever the others did. What a node that
 * is not heard any more left open ends with its last sign of life, and not with another node's.
 */
export function mergeFacts(stores: readonly (readonly Fact[])[], now: number): Fact[] {
  const merged = stores.flatMap((facts) => {
    const services = new Set(facts.flatMap((fact) => (fact.kind === "down" ? fact.service : [])));
    const outages = [...services].flatMap((service) => {
      const { outages: found, ongoing } = keepLedger(
        service,
        facts.filter((fact) => fact.kind !== "outage"),
        now,
      );
      return found.map(({ from, to, cause }, i): Fact =>
        ongoing && i === found.length - 1 && to === now
          ? { kind: "down", at: from, service, cause }
          : { kind: "outage", from, to, service, cause },
      );
    });
    return [...outages, ...facts.filter(({ kind }) => kind !== "down" && kind !== "up")];
  });
  return merged.sort((a, b) => instantOf(a) - instantOf(b));
}
