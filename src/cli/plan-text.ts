import type { Plan, PlannedService, TargetVerdict } from "../availability/model/plan.ts";
import { MONTH_HOURS, YEAR_HOURS, ninesOf, sayAvailability, sayHours } from "../availability/model/words.ts";
import { gapRows } from "./gap-text.ts";
import { type Colour, type Paint, columns } from "./paint.ts";

/** Red below three nines, yellow below four, green from there. */
const colourOf = (unavailability: number): Colour =>
  unavailability > 1e-3 ? "red" : unavailability > 1e-4 ? "yellow" : "green";

const share = (value: number): string =>
  value >= 0.9995 ? "100 %" : value >= 0.001 ? `${(value * 100).toFixed(1)} %` : "< 0.1 %";
export const often = (perYear: number): string =>
  perYear > 0.95 && perYear < 1.05
    ? "once a year"
    : perYear >= 1
      ? `${Number(perYear.toPrecision(2))} a year`
      : perYear === 0
        ? "never"
        : `every ${Number((1 / perYear).toPrecision(2))} years`;

/** `nines plan` for people. */
export function planText(plan: Plan, paint: Paint, options: { inputs: boolean; top: number }): string {
  const dim = (text: string): string => paint("dim", text);
  const lines: string[] = [];
  const section = (title: string, rows: string[]): void => {
    if (rows.length > 0) lines.push("", paint("bold", title), ...rows);
  };
  const without = plan.without.length > 0 ? paint("yellow", `, without ${plan.without.join(", ")}`) : "";
  lines.push(
    `${paint("bold", plan.site)}${without}: what it promises ${dim(`(${plan.basicEvents} things that can go wrong; year of 365 days, month of 30)`)}`,
    "",
  );
  lines.push(
    ...columns([
      ["service", "availability", "nines", "down a year", "down a month", "outages", "naive product"].map(
        dim,
      ),
      ...plan.services.map((one) => serviceRow(one, paint)),
    ]),
  );
  for (const one of plan.services) {
    if (!one.exact)
      lines.push(
        paint(
          "yellow",
          `  ${one.service}: too large for an exact answer here; it lies between ${sayAvailability(one.bounds.upper)} and ${sayAvailability(one.bounds.lower)} (the worse end is shown)`,
        ),
      );
    else if (one.interval)
      lines.push(
        dim(
          `  ${one.service}: ${sayAvailability(one.interval[1])} to ${sayAvailability(one.interval[0])} in 90 % of trials over what is uncertain`,
        ),
      );
  }
  for (const one of plan.services)
    lines.push(...serviceDetail(one, paint, plan.services.length > 1, options.top));
  section("Capacity", capacityRows(plan, paint));
  section("Predicted and drilled gaps", gapRows(plan.gaps, paint));
  if (options.inputs)
    section(
      "What went in",
      columns(
        [
          ["input", "value", "", "from"].map(dim),
          ...plan.inputs.map(({ what, value, origin, source }) => [
            what,
            value,
            paint(origin === "drilled" ? "green" : origin === "default" ? "yellow" : "cyan", origin),
            dim(source),
          ]),
        ],
        [0, 1, 2, 3],
      ),
    );
  else {
    const count = (origin: string): number => plan.inputs.filter((input) => input.origin === origin).length;
    const parts = (["drilled", "configured", "computed", "default"] as const)
      .filter((origin) => count(origin) > 0)
      .map((origin) => `${count(origin)} ${origin}`);
    lines.push("", dim(`Inputs: ${parts.join(", ")}; --inputs shows them with their sources.`));
  }
  return lines.join("\n");
}

function serviceRow(one: PlannedService, paint: Paint): string[] {
  const { unavailability: u } = one;
  return [
    paint("bold", one.service),
    paint(colourOf(u), sayAvailability(u)),
    ninesOf(u) > 15 ? "-" : ninesOf(u).toFixed(1),
    sayHours(u * YEAR_HOURS),
    sayHours(u * MONTH_HOURS),
    one.outagesPerYear === undefined ? "-" : often(one.outagesPerYear),
    paint("dim", sayAvailability(one.naive)),
  ];
}

const CLASS_WORDS: Readonly<Record<PlannedService["byClass"][number]["class"], string>> = {
  component: "things that break",
  takeover: "takeovers",
  "failed takeover": "takeovers that fail",
  "common cause": "common causes",
  undetected: "dead backends not noticed yet",
  repair: "waiting for the repair crew",
};

function serviceDetail(one: PlannedService, paint: Paint, named: boolean, top: number): string[] {
  const dim = (text: string): string => paint("dim", text);
  const of = named ? ` (${one.service})` : "";
  const lines: string[] = [];
  const section = (title: string, rows: string[]): void => {
    if (rows.length > 0) lines.push("", paint("bold", `${title}${of}`), ...rows);
  };
  const total = one.unavailability;
  section(
    "Where the time goes",
    columns([
      ["", "a year", "share", "how often"].map(dim),
      ...one.byClass.map((part) => [
        CLASS_WORDS[part.class],
        sayHours(Math.max(0, part.unavailability) * YEAR_HOURS),
        share(Math.max(0, part.unavailability) / total),
        often(part.perYear),
      ]),
    ]),
  );
  section(
    "Single points of failure",
    one.singlePoints.length === 0
      ? [`  ${paint("green", "none")}`]
      : columns([
          ["", "a year", "share", "how often"].map(dim),
          ...one.singlePoints
            .slice(0, top)
            .map((point) => [
              paint("red", point.name),
              sayHours(point.unavailability * YEAR_HOURS),
              share(point.share),
              often(point.perYear),
            ]),
        ]),
  );
  section(
    "Worst combinations",
    columns(
      one.cutSets
        .slice(0, top)
        .map((set) => [
          set.events.join(dim(" and ")),
          sayHours(set.unavailability * YEAR_HOURS),
          share(set.share),
        ]),
    ),
  );
  section(
    "What one change buys",
    columns(
      one.improvements
        .slice(0, top)
        .map(({ what, from, to }) => [
          what,
          sayAvailability(from),
          "->",
          paint(colourOf(to), sayAvailability(to)),
          dim(`${sayHours((from - to) * YEAR_HOURS)} a year less`),
        ]),
    ),
  );
  if (one.target) section("The promise", verdictRows(one.target, one, paint));
  return lines;
}

function verdictRows(target: TargetVerdict, one: PlannedService, paint: Paint): string[] {
  const window = `${Number((target.windowHours / 24).toPrecision(4))} days`;
  const budget = (1 - target.slo / 100) * target.windowHours;
  const rows = [
    `  ${target.slo} % over ${window}: ${target.kept ? paint("green", "kept on average") : paint("red", "not kept on average")}; budget ${sayHours(budget)}, expected ${sayHours(one.unavailability * target.windowHours)}`,
    `  missed in ${share(target.missed)} of windows; 95 % of windows lose ${sayHours(target.bad * target.windowHours)} at most`,
  ];
  if (target.credits.length > 0) {
    const cost =
      target.creditCost === undefined ? "" : ` = ${target.creditCost.toFixed(2)} ${target.currency} a window`;
    rows.push(`  expected credits: ${target.meanCredit.toFixed(2)} % of the bill${cost}`);
  }
  if (target.outageCost !== undefined)
    rows.push(`  expected cost of outages: ${target.outageCost.toFixed(2)} ${target.currency} a window`);
  return rows;
}

function capacityRows(plan: Plan, paint: Paint): string[] {
  if (plan.capacity.length === 0) return [];
  const dim = (text: string): string => paint("dim", text);
  return columns(
    [
      ["pool", "backends", "peak needs", "that is", "what remains"].map(dim),
      ...plan.capacity.map((pool) => [
        pool.pool,
        String(pool.backends),
        pool.peak === undefined ? dim("not stated") : `${pool.needed} (${pool.peak} of ${pool.total})`,
        pool.peak === undefined
          ? dim("-")
          : paint(pool.redundancy === "short" || pool.redundancy === "N" ? "red" : "green", pool.redundancy),
        pool.peak === undefined
          ? dim("state availability.capacity to know")
          : pool.losses
              .map(({ without, left, enough }) =>
                paint(enough ? "green" : "red", `${left} without ${without}`),
              )
              .join(", "),
      ]),
    ],
    [0, 4],
  );
}

/** Two plans side by side. */
export function comparisonText(
  before: Plan,
  after: Plan,
  names: readonly [string, string],
  paint: Paint,
): string {
  const services = [...new Set([...before.services, ...after.services].map(({ service }) => service))];
  const find = (plan: Plan, name: string) => plan.services.find(({ service }) => service === name);
  const say = (one: PlannedService | undefined): string => (one ? sayAvailability(one.unavailability) : "-");
  const rows = services.map((name) => {
    const [a, b] = [find(before, name), find(after, name)];
    const change = a && b ? a.unavailability - b.unavailability : 0;
    const verdict =
      a === undefined
        ? "new"
        : b === undefined
          ? paint("yellow", "gone")
          : Math.abs(change) < 1e-15
            ? paint("dim", "the same")
            : change > 0
              ? paint("green", `${sayHours(change * YEAR_HOURS)} a year less`)
              : paint("red", `${sayHours(-change * YEAR_HOURS)} a year more`);
    return [
      paint("bold", name),
      say(a),
      "->",
      say(b),
      verdict,
      `${a?.singlePoints.length ?? "-"} -> ${b?.singlePoints.length ?? "-"}`,
    ];
  });
  const head = ["service", names[0], "", names[1], "", "single points"].map((cell) => paint("dim", cell));
  return columns([head, ...rows]).join("\n");
}
