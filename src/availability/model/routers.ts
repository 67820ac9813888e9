/** A virtual router: down when no node is left, while it moves, and while a move that failed is mended by hand. */
import type { VirtualRouter } from "../../contracts/site.ts";
import { effectiveCoverage } from "../engine/switchover.ts";
import { commonCauses } from "./common.ts";
import { DEFAULT_COVERAGE } from "./defaults.ts";
import type { Machines } from "./machines.ts";
import type { Origin, Part } from "./site-model.ts";
import { routerTimes } from "./times.ts";
import { HOUR, sayDays, sayMilliseconds, sayPercent } from "./words.ts";
import type { Workbook } from "./workbook.ts";

export function routerPart(book: Workbook, machines: Machines, name: string): Part {
  const { site, tree } = book;
  const router = site.virtualRouters[name]!;
  const all = Object.entries(router.priorities)
    .sort(([, a], [, b]) => b - a)
    .filter(([node]) => site.nodes[node] !== undefined)
    .map(([node]) => machines.node(node));
  const honest = [tree.and(`${name} has no node left`, ...all.map((machine) => machine.gate))];
  const naive = tree.and(`${name} has no node left (alone)`, ...all.map((machine) => machine.naive));
  const standing = all.filter((machine) => !machine.down);
  if (standing.length < 2) return { honest, naive };
  const active = standing[0]!;
  const time = takeoverTime(book, name, router);
  const coverage = takeoverCoverage(book);
  honest.push(
    book.event({
      name: `takeover of ${name}`,
      class: "takeover",
      owner: name,
      kind: "takeover",
      rate: active.rate * coverage.value,
      duration: time.hours,
      origin: time.origin,
    }),
    book.event({
      name: `takeover of ${name} that fails`,
      class: "failed takeover",
      owner: name,
      kind: "takeover",
      rate: active.rate * (1 - coverage.value),
      duration: time.hours + site.availability.failover.manual / HOUR,
      origin: coverage.origin,
    }),
    ...commonCauses(book, `nodes of ${name}`, name, standing),
  );
  return { honest, naive };
}

/** How long a takeover takes: as drilled, else as the configuration determines. */
function takeoverTime(
  book: Workbook,
  name: string,
  router: VirtualRouter,
): { readonly hours: number; readonly origin: Origin } {
  const { move, clients } = book.site.availability.failover;
  const computed = routerTimes(router);
  const drilled = book.measured?.takeover;
  const origin = drilled === undefined ? "computed" : "drilled";
  const total = (drilled?.gap ?? computed.detect + move) + clients;
  book.input(
    `takeover ${name}`,
    `takeover of ${name}`,
    sayMilliseconds(total),
    origin,
    drilled === undefined
      ? `detect ${sayMilliseconds(computed.detect)} (${computed.words}), move ${sayMilliseconds(move)}, clients ${sayMilliseconds(clients)}`
      : `median of ${drilled.runs} power cuts, drills of ${book.measured?.date}; the configuration says ${sayMilliseconds(computed.detect + move)}`,
  );
  return { hours: total / HOUR, origin };
}

/** The share of takeovers that work: as drilled, as configured or by default, less what breaks unnoticed. */
function takeoverCoverage(book: Workbook): { readonly value: number; readonly origin: Origin } {
  const { failover } = book.site.availability;
  const drilled = book.measured?.coverage;
  const origin: Origin =
    drilled !== undefined ? "drilled" : failover.coverage !== undefined ? "configured" : "default";
  const stated = drilled?.value ?? failover.coverage ?? DEFAULT_COVERAGE.value;
  const source =
    drilled !== undefined
      ? `${drilled.good} of ${drilled.runs} drilled takeovers were within budget`
      : failover.coverage !== undefined
        ? "site file"
        : DEFAULT_COVERAGE.source;
  book.input("coverage", "takeovers that work", sayPercent(stated), origin, source);
  const latent = { rate: HOUR / failover.latentMtbf, drillEvery: failover.drillEvery / HOUR };
  const value = effectiveCoverage(stated, latent);
  book.input(
    "latent",
    "the same, latent faults counted",
    sayPercent(value),
    "computed",
    `a standby breaks unnoticed every ${sayDays(failover.latentMtbf)}, a drill every ${sayDays(failover.drillEvery)} finds it`,
  );
  return { value, origin };
}
