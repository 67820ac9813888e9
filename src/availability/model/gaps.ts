/**
 * The gap that the configuration predicts for every drill, beside the one that was drilled. A gap is the time
 * in which new connections fail; ms throughout.
 */
import type { DRILL_NAMES } from "../../config/schema/lab.ts";
import type { DrillReport, DrillRun } from "../../contracts/drills.ts";
import type { Site, VirtualRouter } from "../../contracts/site.ts";
import { gapOf, median, settledOf } from "./measured.ts";
import { checkTimes, routerTimes } from "./times.ts";

type DrillName = (typeof DRILL_NAMES)[number];

interface Prediction {
  /** undefined: as long as the fault lasts, whatever the site does. */
  readonly gap: number | undefined;
  /** Half of what the phase of a timer adds or takes: chance in one run, less in the median of several. */
  readonly phase?: number;
  readonly why: string;
  /** What of a run is held against it; the longest gap of new connections by default. */
  readonly measured?: (run: DrillRun) => number;
}

export interface GapComparison {
  readonly router: string;
  readonly drill: string;
  /** null: no number, because it lasts as long as the fault; `measured` is then held against that. */
  readonly predicted: number | null;
  readonly why: string;
  readonly measured: number;
  readonly runs: number;
  /** Within 20 % or 50 ms, whichever is more, and what the phase of a timer may add or take. */
  readonly agrees: boolean;
}

const none = (why: string): Prediction => ({ gap: 0, why });

/** Every drill has one: a new drill does not compile without. */
function predictions(site: Site, router: VirtualRouter): Readonly<Record<DrillName, Prediction>> {
  const { detect, skew, words } = routerTimes(router);
  const { move } = site.availability.failover;
  const released: Prediction = {
    gap: skew + move,
    why: "the node sees it and gives up by priority 0: skew, then the move",
  };
  const handedOver = none("handed over in order: the old node serves until it hears the new one");
  const kernel = none("the kernel goes on forwarding until the new node has announced itself");
  const unmoved = none("no address moves, and the kernel forwards without the process");
  return {
    switchover: handedOver,
    failback: handedOver,
    "kill-all": kernel,
    "power-cut": { gap: detect + move, phase: router.interval / 2, why: `${words}; then the move` },
    "link-down-front": released,
    "link-down-back": released,
    "link-flap": released,
    hang: kernel,
    "adverts-one-way": none("both nodes forward while both are Active"),
    partition: none("both nodes forward while both are Active"),
    "backend-killed": untilNoticed(site, "refused"),
    "brain-killed": unmoved,
    "both-brains-killed": unmoved,
    "redundancy-killed": kernel,
    "proxy-killed": { ...released, why: "the node has no proxy left and gives way: skew, then the move" },
    "proxy-cut": untilNoticed(site, "detect"),
    "flows-killed": handedOver,
    "rolling-upgrade": handedOver,
    "node-drained": handedOver,
    "backend-changed": handedOver,
    "address-deleted": none("put back at once, before a client has to ask for it"),
    "ruleset-flushed": none("the connections are pinned, and the tables are put back at once"),
    "foreign-mark": none("our own marks are told apart by their mask"),
    "forward-drop": {
      gap: undefined,
      why: "nobody can overrule another table's drop; nines doctor names it",
    },
    "hung-resolver": none("the fence stops the hung node's answers, and the new node announces itself"),
    starvation: none("nothing is broken, so nothing may move"),
  };
}

/** New connections that meet what is dead fail in between others: until the checks notice. */
function untilNoticed(site: Site, how: "refused" | "detect"): Prediction {
  const pool = Object.values(site.pools).find(({ check }) => check !== undefined);
  const times = pool && checkTimes(pool);
  if (times === undefined) return { gap: undefined, why: "no pool has a check, so nobody notices" };
  const why = `until noticed: ${how === "detect" ? times.words : times.refusedWords}`;
  return { gap: times[how], phase: times.phase, why, measured: settledOf };
}

/** For every drill that was run, and every router of the site. */
export const compareGaps = (site: Site, reports: readonly DrillReport[]): GapComparison[] =>
  Object.entries(site.virtualRouters).flatMap(([name, router]) => compareRouter(site, name, router, reports));

function compareRouter(
  site: Site,
  name: string,
  router: VirtualRouter,
  reports: readonly DrillReport[],
): GapComparison[] {
  const runs = new Map<string, DrillRun[]>();
  for (const run of reports.flatMap((report) => report.runs))
    if (run.subject === "nines" && run.verdict !== "skipped")
      runs.set(run.drill, [...(runs.get(run.drill) ?? []), run]);
  const all: Readonly<Record<string, Prediction>> = predictions(site, router);
  return [...runs].flatMap(([drill, same]) => {
    const prediction = Object.hasOwn(all, drill) ? all[drill] : undefined;
    if (prediction === undefined) return [];
    const measured = median(same.map(prediction.measured ?? gapOf));
    const expected = prediction.gap ?? median(same.map(({ healedAt }) => healedAt));
    const phase = (prediction.phase ?? 0) / Math.sqrt(same.length);
    const agrees = Math.abs(expected - measured) <= Math.max(0.2 * measured, 50) + phase;
    const { gap = null, why } = prediction;
    return [{ router: name, drill, predicted: gap, why, measured, runs: same.length, agrees }];
  });
}
