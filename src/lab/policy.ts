/**
 * From what was seen to figures and a verdict. Pure: the same observations give the same report.
 * Instants are host-monotonic milliseconds on the way in, milliseconds from the fault on the way out.
 */
import type { DrillBudget, EstablishedOutcome, ProbeOutcome, StreamKind } from "../contracts/drills.ts";

/** One probe: when it was due, when it was settled, and what went wrong. */
export interface Observation {
  readonly due: number;
  readonly done: number;
  readonly error?: string;
}

export interface Gap {
  readonly from: number;
  readonly to: number;
  readonly error: string;
}

/** From the first failed send to the first good send; a gap that never ends ends with the last probe. */
export function findGaps(observations: readonly Observation[]): Gap[] {
  const sorted = [...observations].sort((a, b) => a.due - b.due);
  const gaps: Gap[] = [];
  let open: { from: number; error: string } | undefined;
  for (const { due, error } of sorted) {
    if (error !== undefined) open ??= { from: due, error };
    else if (open !== undefined) {
      gaps.push({ ...open, to: due });
      open = undefined;
    }
  }
  const last = sorted.at(-1);
  if (open !== undefined && last !== undefined) gaps.push({ ...open, to: last.due });
  return gaps;
}

/** The value below which the share `q` lies: nearest rank, 0 for nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0;
}

const tenths = (value: number): number => Math.round(value * 10) / 10;

export function summarise(
  stream: string,
  kind: StreamKind,
  observations: readonly Observation[],
  faultAt: number,
  established?: EstablishedOutcome,
): ProbeOutcome {
  const errors: { [error: string]: number } = {};
  const latencies: number[] = [];
  for (const { due, done, error } of observations)
    if (error === undefined) latencies.push(done - due);
    else errors[error] = (errors[error] ?? 0) + 1;
  const gaps = findGaps(observations).map(({ from, to, error }) => ({
    from: tenths(from - faultAt),
    to: tenths(to - faultAt),
    error,
  }));
  return {
    stream,
    kind,
    sent: observations.length,
    good: latencies.length,
    errors,
    longestGap: tenths(Math.max(0, ...gaps.map(({ from, to }) => to - from))),
    badTime: tenths(gaps.reduce((sum, { from, to }) => sum + to - from, 0)),
    gaps,
    latency: {
      median: tenths(quantile(latencies, 0.5)),
      p99: tenths(quantile(latencies, 0.99)),
      max: tenths(quantile(latencies, 1)),
    },
    established: established && {
      ...established,
      lost: established.lost?.map((one) => ({
        ...one,
        established: tenths(one.established - faultAt),
        last: tenths(one.last - faultAt),
      })),
    },
  };
}

/** A node began or ceased to have an address. */
export interface OwnerEvent {
  readonly at: number;
  readonly node: string;
  readonly address: string;
  readonly owns: boolean;
}

export interface OwnerSpan {
  readonly node: string;
  readonly address: string;
  readonly from: number;
  readonly to: number;
}

/** Who had which address between two instants. Events before `from` tell how the window begins. */
export function ownerSpans(events: readonly OwnerEvent[], from: number, to: number): OwnerSpan[] {
  const since = new Map<string, OwnerEvent>();
  const spans: OwnerSpan[] = [];
  for (const event of [...events].sort((a, b) => a.at - b.at)) {
    if (event.at >= to) break;
    const key = `${event.node} ${event.address}`;
    const begun = since.get(key);
    if (event.owns) {
      if (begun === undefined) since.set(key, event);
    } else if (begun !== undefined) {
      since.delete(key);
      if (event.at > from)
        spans.push({
          node: event.node,
          address: event.address,
          from: Math.max(from, begun.at),
          to: event.at,
        });
    }
  }
  for (const { node, address, at } of since.values())
    spans.push({ node, address, from: Math.max(from, at), to });
  return spans.sort((a, b) => a.from - b.from);
}

/** Time without an owner and with several, of the address that fared worst. */
export function ownership(
  spans: readonly OwnerSpan[],
  addresses: readonly string[],
  from: number,
  to: number,
): { readonly noOwner: number; readonly twoOwners: number } {
  let noOwner = 0;
  let twoOwners = 0;
  for (const address of addresses) {
    const mine = spans.filter((span) => span.address === address);
    const edges = [...new Set([from, to, ...mine.flatMap((span) => [span.from, span.to])])].sort(
      (a, b) => a - b,
    );
    let none = 0;
    let two = 0;
    for (let i = 1; i < edges.length; i++) {
      const [low = 0, high = 0] = [edges[i - 1], edges[i]];
      const owners = mine.filter((span) => span.from <= low && span.to >= high).length;
      if (owners === 0) none += high - low;
      if (owners > 1) two += high - low;
    }
    noOwner = Math.max(noOwner, none);
    twoOwners = Math.max(twoOwners, two);
  }
  return { noOwner: tenths(noOwner), twoOwners: tenths(twoOwners) };
}

/** The figures that a budget speaks of. */
export interface Figures {
  readonly gap: number;
  readonly lost: number;
  readonly kept: number;
  readonly noOwner: number;
  readonly twoOwners: number;
  readonly takeovers: number;
  readonly settled: number;
}

const NEW_CONNECTIONS: readonly StreamKind[] = ["connect", "resolver"];

export function figuresOf(
  probes: readonly ProbeOutcome[],
  others: { readonly noOwner: number; readonly twoOwners: number; readonly takeovers: number },
): Figures {
  const fresh = probes.filter(({ kind }) => NEW_CONNECTIONS.includes(kind));
  const held = probes.flatMap(({ kind, established }) =>
    established === undefined || kind === "arriving" ? [] : [established],
  );
  const before = held.reduce((sum, one) => sum + one.before, 0);
  return {
    gap: Math.max(0, ...fresh.map(({ longestGap }) => longestGap)),
    lost: fresh.reduce((sum, { sent, good }) => sum + sent - good, 0),
    kept: before === 0 ? 1 : held.reduce((sum, one) => sum + one.kept, 0) / before,
    settled: Math.max(0, ...fresh.flatMap(({ gaps }) => gaps.map(({ to }) => to))),
    ...others,
  };
}

const SAID: Readonly<{ [figure in keyof Figures]: (value: number) => string }> = {
  gap: (value) => `gap ${value} ms`,
  lost: (value) => `${value} new connections lost`,
  kept: (value) => `${Math.floor(value * 1000) / 10} % of established connections kept`,
  noOwner: (value) => `${value} ms without an owner`,
  twoOwners: (value) => `${value} ms with two owners`,
  takeovers: (value) => `${value} takeovers`,
  settled: (value) => `new connections failed until ${value} ms`,
};

/** Every line of the budget that was missed; none is a pass. */
export function missed(figures: Figures, budget: DrillBudget): string[] {
  return (Object.keys(SAID) as (keyof Figures)[]).flatMap((figure) => {
    const allowed = budget[figure];
    if (allowed === undefined) return [];
    const value = figures[figure];
    const good = figure === "kept" ? value >= allowed : value <= allowed;
    return good
      ? []
      : [`${SAID[figure](value)}, budget ${figure === "kept" ? `${allowed * 100} %` : allowed}`];
  });
}
