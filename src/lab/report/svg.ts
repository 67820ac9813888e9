/**
 * The timeline of one run, for people: what clients saw, who said he was Active, who had the address,
 * and the fault behind it all, over one axis of time whose zero is the fault.
 */
import type { DrillRun, TimelineEntry } from "../../contracts/drills.ts";
import { type Observation, figuresOf } from "../policy.ts";
import { escapeXml } from "./xml.ts";

const WIDTH = 1200;
const LEFT = 190;
const RIGHT = 24;
const LANE = 26;
const PROBES = 46;
const TOP = 84;

/** Told apart also by those who do not tell red from green: blue is good, orange and dark red are not. */
const COLOURS: Readonly<{ [what: string]: string }> = {
  active: "#1b6ca8",
  backup: "#c9d3db",
  fault: "#e08214",
  initialize: "#efe3c8",
  off: "#ffffff",
};
const NODES = ["#1b6ca8", "#7a4fa3", "#2a8c7e", "#a3722a", "#5b5b5b"];
const LEGEND =
  "point: probe answered, the higher the later (root scale, top 200 ms); red bar: probe failed; band: from the fault to its heal";
const GOOD = "#5aa7dc";
const BAD = "#b2182b";

const text = (x: number, y: number, said: string, extra = ""): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${extra}>${escapeXml(said)}</text>`;

const box = (x: number, y: number, width: number, height: number, fill: string, extra = ""): string =>
  `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(0.5, width).toFixed(1)}" height="${height}" fill="${fill}" ${extra}/>`;

/** A round step that gives about ten marks. */
function tickStep(span: number): number {
  const rough = span / 10;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? 10 * power;
}

class Picture {
  readonly #parts: string[] = [];
  readonly #from: number;
  readonly #to: number;
  y = TOP;

  constructor(from: number, to: number) {
    this.#from = from;
    this.#to = to;
  }
  x(at: number): number {
    return LEFT + ((at - this.#from) / (this.#to - this.#from)) * (WIDTH - LEFT - RIGHT);
  }
  add(...parts: readonly string[]): void {
    this.#parts.push(...parts);
  }

  lane(label: string, height: number, note = ""): void {
    this.add(
      text(LEFT - 10, this.y + height / 2 + (note === "" ? 4 : -2), label, 'text-anchor="end"'),
      note === ""
        ? ""
        : text(LEFT - 10, this.y + height / 2 + 12, note, 'text-anchor="end" font-size="10" fill="#666"'),
      `<line x1="${LEFT}" y1="${this.y + height}" x2="${WIDTH - RIGHT}" y2="${this.y + height}" stroke="#e4e4e4"/>`,
    );
  }

  spans(label: string, entries: readonly TimelineEntry[], colour: (what: string) => string): void {
    this.lane(label, LANE);
    for (const { at, until = this.#to, what } of entries) {
      const [left, right] = [this.x(Math.max(at, this.#from)), this.x(Math.min(until, this.#to))];
      this.add(
        box(left, this.y + 4, right - left, LANE - 8, colour(what), 'stroke="#888" stroke-width="0.4"'),
      );
      if (right - left > 7 * what.length + 6)
        this.add(
          text(
            left + 4,
            this.y + LANE / 2 + 4,
            what,
            `fill="${["backup", "off", "initialize"].includes(what) ? "#333" : "#fff"}" font-size="11"`,
          ),
        );
    }
    this.y += LANE;
  }

  /** Good probes as points at the height of their latency (root scale to 200 ms), bad ones as full bars. */
  probes(label: string, note: string, samples: readonly Observation[]): void {
    this.lane(label, PROBES, note);
    const floor = this.y + PROBES - 3;
    const good: string[] = [];
    const bad: string[] = [];
    for (const { due, done, error } of samples) {
      if (due < this.#from || due > this.#to) continue;
      const x = this.x(due).toFixed(1);
      if (error !== undefined) bad.push(`M${x} ${this.y + 3}V${floor}`);
      else
        good.push(
          `M${x} ${(floor - Math.sqrt(Math.min(1, (done - due) / 200)) * (PROBES - 6)).toFixed(1)}h0`,
        );
    }
    if (bad.length > 0)
      this.add(`<path d="${bad.join("")}" stroke="${BAD}" stroke-width="1.6" fill="none"/>`);
    if (good.length > 0)
      this.add(
        `<path d="${good.join("")}" stroke="${GOOD}" stroke-width="2" stroke-linecap="round" fill="none"/>`,
      );
    this.y += PROBES;
  }

  /** Behind everything: the fault as a band, zero as a line. */
  backdrop(fault: readonly TimelineEntry[]): string {
    const bands = fault.map(({ at, until = this.#to }) =>
      box(this.x(at), TOP - 6, this.x(Math.min(until, this.#to)) - this.x(at), this.y - TOP + 10, "#fdf1dc"),
    );
    const marks: string[] = [];
    const step = tickStep(this.#to - this.#from);
    for (let at = Math.ceil(this.#from / step) * step; at <= this.#to; at += step) {
      const x = this.x(at).toFixed(1);
      marks.push(
        `<line x1="${x}" y1="${TOP - 6}" x2="${x}" y2="${this.y + 4}" stroke="${at === 0 ? "#c0392b" : "#eeeeee"}"/>`,
      );
      marks.push(
        text(
          this.x(at),
          this.y + 18,
          at === 0 ? "fault" : `${at} ms`,
          'text-anchor="middle" font-size="11" fill="#555"',
        ),
      );
    }
    return [...bands, ...marks].join("\n");
  }

  render(title: string, subtitle: string, fault: readonly TimelineEntry[]): string {
    const height = this.y + 54;
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
${text(16, 26, title, 'font-size="17" font-weight="bold"')}
${text(16, 48, subtitle, 'fill="#444"')}
${this.backdrop(fault)}
${text(16, height - 12, LEGEND, 'fill="#666" font-size="11"')}
${this.#parts.filter((part) => part !== "").join("\n")}
</svg>
`;
  }
}

export function timelineSvg(run: DrillRun, samples: ReadonlyMap<string, readonly Observation[]>): string {
  const fault = run.timeline.filter(({ lane }) => lane === "fault");
  const end = Math.max(run.healedAt + 500, ...run.timeline.map(({ until }) => until ?? 0));
  const picture = new Picture(-400, end);
  const lanes = (prefix: string): [string, TimelineEntry[]][] => {
    const found = run.timeline.filter(({ lane }) => lane.startsWith(`${prefix} `));
    return [...new Set(found.map(({ lane }) => lane))]
      .sort()
      .map((lane) => [lane, found.filter((one) => one.lane === lane)]);
  };
  picture.spans("fault", fault, () => "#e08214");
  for (const { stream, longestGap, sent, good } of run.probes) {
    const note = sent === good ? "all answered" : `${sent - good} of ${sent} bad, gap ${longestGap} ms`;
    picture.probes(stream, note, samples.get(stream) ?? []);
  }
  for (const [lane, entries] of lanes("role"))
    picture.spans(lane, entries, (what) => COLOURS[what] ?? "#999");
  const nodes = [
    ...new Set(run.timeline.flatMap(({ lane, what }) => (lane.startsWith("owner ") ? [what] : []))),
  ].sort();
  for (const [lane, entries] of lanes("owner"))
    for (const node of nodes) {
      const mine = entries.filter(({ what }) => what === node);
      if (mine.length > 0)
        picture.spans(
          `${lane.slice(6)} on ${node}`,
          mine,
          (what) => NODES[nodes.indexOf(what) % NODES.length] ?? "#999",
        );
    }
  const { gap, lost, kept } = figuresOf(run.probes, run);
  const title = `${run.drill} #${run.repeat}, ${run.subject}: ${run.verdict}`;
  const figures = `gap ${gap} ms, ${lost} new connections lost, ${Math.floor(kept * 100)} % of established kept, prober lag ${run.proberLag} ms`;
  const reason = run.reason === undefined ? "" : ` (${run.reason})`;
  return picture.render(title, (figures + reason).slice(0, 170), fault);
}
