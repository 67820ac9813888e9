/** Runs drills one after the other in one lab: settle, watch, break, hold, heal, settle, judge. */
import { setTimeout as sleep } from "node:timers/promises";
import { OperationalError, messageOf } from "../base/errors.ts";
import { systemRandom } from "../base/random.ts";
import type { DrillBudget, DrillRun, TimelineEntry } from "../contracts/drills.ts";
import type { Site } from "../contracts/site.ts";
import type { Drill, Promises } from "./drills/drill.ts";
import type { Cast } from "./faults/fault.ts";
import { hostClock } from "./host-clock.ts";
import type { Lab } from "./lab.ts";
import { type Observation, figuresOf, missed, ownerSpans, ownership, summarise } from "./policy.ts";
import type { Probers } from "./probers.ts";
import { promisesOf } from "./promises.ts";
import { usualStreams } from "./streams.ts";
import type { RoleEvent } from "./subjects/subject.ts";

/** Every stream good for this long: the site serves, and the fault's effects can be told from others. */
const GOOD_FOR = 500;
const GOOD_WITHIN = 30_000;

/** A run with all that was seen, for its picture. */
export interface WatchedRun {
  readonly run: DrillRun;
  /** Times in ms from the fault. */
  readonly samples: ReadonlyMap<string, readonly Observation[]>;
  /** What each node wrote, up to the end of the run. */
  readonly logs: ReadonlyMap<string, readonly string[]>;
}

const now = (): number => hostClock.monotonic();

async function goodFor(probers: Probers, within: number, fresh: boolean): Promise<boolean> {
  const begun = now();
  while (now() - begun < within) {
    await sleep(50);
    // Those of the last 250 ms may still be on their way.
    const until = now() - 250;
    if (until - GOOD_FOR > begun - 250 && probers.goodSince(until - GOOD_FOR, fresh)) return true;
  }
  return false;
}

/** Changes only: two instances of one node entering a state are one change. */
function changes(events: readonly RoleEvent[]): RoleEvent[] {
  const last = new Map<string, string>();
  return events.filter(({ node, role }) => {
    if (last.get(node) === role) return false;
    last.set(node, role);
    return true;
  });
}

function roleLanes(events: readonly RoleEvent[], faultAt: number, from: number, to: number): TimelineEntry[] {
  const nodes = [...new Set(events.map(({ node }) => node))];
  return nodes.flatMap((node) => {
    const mine = events.filter((one) => one.node === node && one.at < to);
    return mine.flatMap((event, i): TimelineEntry[] => {
      const until = mine[i + 1]?.at ?? to;
      if (until <= from) return [];
      const at = Math.max(event.at, from);
      return [
        {
          at: Math.round(at - faultAt),
          lane: `role ${node}`,
          what: event.role,
          until: Math.round(until - faultAt),
        },
      ];
    });
  });
}

export class Runner {
  readonly #lab: Lab;
  readonly #probers: Probers;

  constructor(lab: Lab, probers: Probers) {
    this.#lab = lab;
    this.#probers = probers;
  }

  #budget(drill: Drill): DrillBudget {
    const declared = this.#lab.site.drills[drill.name as keyof Site["drills"]] ?? {};
    return { ...drill.budget(promisesOf(this.#lab.site)), ...declared };
  }

  /** A site that does not serve at all is told once, not by every drill. */
  async mustServe(): Promise<void> {
    // Processes that take their time to start are waited for, as a node that boots would be.
    await this.#inSync(promisesOf(this.#lab.site));
    await this.#probers.begin(usualStreams(this.#lab.plan));
    const good = await goodFor(this.#probers, GOOD_WITHIN, false);
    const complaints = this.#complaints();
    await this.#probers.end();
    if (!good)
      throw new OperationalError("CONFLICT", `the site does not serve, so no drill was run: ${complaints}`);
  }

  /** A run of a subject that cannot run here. */
  skipped(subject: DrillRun["subject"], drill: Drill, repeat: number, reason: string): WatchedRun {
    return this.#unwatched(drill, repeat, "skipped", reason, subject);
  }

  #unwatched(
    drill: Drill,
    repeat: number,
    verdict: "failed" | "skipped",
    reason: string,
    subject: DrillRun["subject"] = this.#lab.subject.name,
  ): WatchedRun {
    const nothing = {
      healedAt: 0,
      probes: [],
      proberLag: 0,
      noOwner: 0,
      twoOwners: 0,
      takeovers: 0,
      timeline: [],
    };
    return {
      run: { drill: drill.name, repeat, subject, verdict, reason, budget: this.#budget(drill), ...nothing },
      samples: new Map(),
      logs: verdict === "failed" ? this.#logs() : new Map(),
    };
  }

  async #cast(): Promise<Cast> {
    const active = await this.#lab.steady();
    const { virtualRouters } = this.#lab.site;
    const priority = (node: string): number =>
      Math.max(0, ...Object.values(virtualRouters).map(({ priorities }) => priorities[node] ?? 0));
    const others = this.#lab.nodes.filter((node) => node !== active && priority(node) > 0);
    const [backup = active] = others.sort((a, b) => priority(b) - priority(a));
    return { active, backup };
  }

  /** Never rejects: what goes wrong is the run's reason, and the nodes are booted afresh for the next. */
  async run(drill: Drill, repeat: number): Promise<WatchedRun> {
    const skip = drill.skip?.(this.#lab);
    if (skip !== undefined) return this.#unwatched(drill, repeat, "skipped", skip);
    try {
      return await this.#watch(drill, repeat);
    } catch (error) {
      const failed = this.#unwatched(drill, repeat, "failed", messageOf(error));
      await this.#startAfresh();
      return failed;
    }
  }

  async #startAfresh(): Promise<void> {
    await this.#probers.end().catch(() => {});
    for (const node of this.#lab.nodes) await this.#lab.reboot(node);
    await this.#lab.steady().catch(() => {});
  }

  /** A node that has just started has its peers' connections and proxies only in a moment, and preempts only then. */
  async #inSync({ activeDown, interval }: Promises): Promise<void> {
    if (this.#lab.site.flows === undefined && this.#lab.plan.proxies.length === 0) return;
    for (const node of this.#lab.nodes) await this.#lab.subject.synced(node);
    await sleep(activeDown + 2 * interval);
    await this.#lab.steady();
  }

  async #watch(drill: Drill, repeat: number): Promise<WatchedRun> {
    const lab = this.#lab;
    const promises = promisesOf(lab.site);
    await lab.steady();
    await drill.prepare?.(lab);
    await this.#inSync(promises);
    const cast = await this.#cast();
    const usual = usualStreams(lab.plan);
    await this.#probers.begin(drill.streams?.(usual, lab) ?? usual);
    if (!(await goodFor(this.#probers, GOOD_WITHIN, false)))
      throw new Error(`the site did not serve before the fault: ${this.#complaints()}`);

    // Any phase of the advertisement interval, else ten repeats measure one and the same case.
    await sleep(systemRandom.next() * promises.interval);
    const begun = now();
    const fault = drill.fault(cast, lab);
    const faultAt = now();
    let healedAt: number;
    let undiagnosed: string | undefined;
    try {
      await fault.inject(lab);
      await sleep(drill.hold(promises));
      if (lab.subject.name === "nines") undiagnosed = await drill.diagnose?.(cast, lab);
    } finally {
      healedAt = now();
      await fault.heal(lab);
    }
    const recovered = await goodFor(this.#probers, GOOD_WITHIN, true);
    const settled = await lab.steady(GOOD_WITHIN).then(
      () => undefined,
      (error: unknown) => messageOf(error),
    );
    const windowEnd = now();
    const observations = this.#probers.observations;
    const { lag, kept } = await this.#probers.end();

    const addresses = lab.plan.virtual.map(({ address }) => address);
    const from = begun - GOOD_FOR;
    const spans = ownerSpans(lab.observer.events, from, windowEnd);
    const roles = changes(lab.subject.roles());
    const probes = this.#probers.specs.map(({ stream, kind }) =>
      summarise(stream, kind, observations.get(stream) ?? [], faultAt, kept.get(stream)),
    );
    const others = {
      ...ownership(spans, addresses, faultAt, windowEnd),
      takeovers: roles.filter(({ at, role }) => role === "active" && at >= faultAt && at < windowEnd).length,
    };
    const budget = this.#budget(drill);
    const misses = missed(figuresOf(probes, others), budget);
    if (!recovered)
      misses.push(`did not serve again within ${GOOD_WITHIN} ms after the heal: ${this.#complaints()}`);
    if (settled !== undefined) misses.push(settled);
    if (undiagnosed !== undefined) misses.push(undiagnosed);
    const relative = (at: number): number => Math.round(at - faultAt);
    const timeline: TimelineEntry[] = [
      { at: 0, lane: "fault", what: fault.what, until: relative(healedAt) },
      ...roleLanes(roles, faultAt, from, windowEnd),
      ...spans.map((span) => ({
        at: relative(span.from),
        lane: `owner ${span.address}`,
        what: span.node,
        until: relative(span.to),
      })),
    ];
    const run: DrillRun = {
      drill: drill.name,
      repeat,
      subject: lab.subject.name,
      verdict: misses.length === 0 ? "passed" : "failed",
      reason: misses.length === 0 ? undefined : misses.join("; "),
      node: cast.active,
      healedAt: relative(healedAt),
      budget,
      probes,
      proberLag: Math.round(lag * 10) / 10,
      ...others,
      timeline,
    };
    const logs = this.#logs();
    if (!recovered || settled !== undefined) await this.#startAfresh();
    const samples = [...observations].map(
      ([stream, list]) =>
        [stream, list.map((one) => ({ ...one, due: one.due - faultAt, done: one.done - faultAt }))] as const,
    );
    return { run, samples: new Map(samples), logs };
  }

  #logs(): Map<string, readonly string[]> {
    return new Map(this.#lab.nodes.map((node) => [node, [...this.#lab.subject.said(node)]]));
  }

  /** Which streams fail, and how, for the reason of a run that could not begin. */
  #complaints(): string {
    const bad = this.#probers.specs.flatMap(({ stream }) => {
      const list = this.#probers.observations.get(stream) ?? [];
      const last = list.findLast(({ error }) => error !== undefined);
      if (list.length === 0) return [`${stream}: no answer at all`];
      return last === undefined ? [] : [`${stream}: ${last.error}`];
    });
    return bad.join(", ");
  }
}
