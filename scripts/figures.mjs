// Figures in documents come from bench/results. `node scripts/figures.mjs` rewrites every block between its first line and
// its `/` line; `--check` only compares.
//   <!-- figures: BENCH METRIC [SUBJECT,SUBJECT] -->  <!-- /figures -->
//     a table of that metric: a row per case, a column per subject, median (least to most)
//   <!-- beside: BENCH SUBJECT,SUBJECT METRIC+,METRIC- -->  <!-- /beside -->
//     in words where each of two subjects is ahead; + where more is better, - where less is
//   <!-- lost: BENCH SUBJECT -->  <!-- /lost -->
//     a sentence on the established connections that a subject lost
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { format } from "prettier";

const root = new URL("../", import.meta.url);
const block = /(<!-- (figures|beside|lost): ([^\n]+?) -->\n)[\s\S]*?(<!-- \/\2 -->)/g;

const number = (value) =>
  Math.abs(value) >= 100 || Number.isInteger(value)
    ? String(Math.round(value))
    : value.toFixed(Math.abs(value) < 1 ? 3 : 1);
const inWords = (list) =>
  list.length < 2 ? list.join("") : `${list.slice(0, -1).join(", ")} and ${list.at(-1)}`;
const unique = (list) => [...new Set(list)];
const find = ({ rows }, name, subject, metric) =>
  rows.find((row) => row.case === name && row.subject === subject && row.metric === metric);

/** The subject held all that the load could give: its figure is a lower bound. */
const isLeast = (results, { case: name, subject, metric }) =>
  metric === "sustained" && (find(results, name, subject, "beyond the load")?.median ?? 0) > 0;

/** The load that was reached, where it falls short of the one in the case's name. */
function shortLoad(results, { case: name, subject, metric }) {
  const wanted = /^(\d+) new flows/.exec(name)?.[1];
  const load = find(results, name, subject, "load")?.median;
  return wanted === undefined || load === undefined || metric === "load" || load >= 0.95 * Number(wanted)
    ? ""
    : ` at ${number(load)}/s`;
}

/** `2026-11-22; foreign-mark: 2026-11-23`: the day of most rows, then those of others. */
function days({ date }, rows) {
  const dayOf = (row) => (row.date ?? date).slice(0, 10);
  const most = mostOf(rows.map(dayOf));
  const others = unique(rows.map(dayOf))
    .filter((day) => day !== most)
    .map(
      (day) =>
        `${unique(rows.filter((row) => dayOf(row) === day).map((row) => row.case)).join(", ")}: ${day}`,
    );
  return [most, ...others].join("; ");
}

/** The one that comes most often. */
const mostOf = (list) =>
  unique(list).reduce((a, b) =>
    list.filter((one) => one === b).length > list.filter((one) => one === a).length ? b : a,
  );

/** A variant's results have a name of their own, and not a command. */
const commandOf = ({ bench, variant }) =>
  variant !== undefined && bench.endsWith(`-${variant}`)
    ? `npm run bench:${bench.slice(0, -variant.length - 1)} -- --variant ${variant}`
    : `npm run bench:${bench}`;

/** The table of a metric, with what was measured how often, when and where. */
export function tableOf(results, metric, subjects) {
  const rows = results.rows.filter(
    (row) => row.metric === metric && (subjects === undefined || subjects.includes(row.subject)),
  );
  const columns = subjects ?? unique(rows.map((row) => row.subject));
  const runs = mostOf(rows.map((row) => row.runs));
  const cell = (name, subject) => {
    const row = find(results, name, subject, metric);
    if (row === undefined) return "–";
    const figures = `${number(row.median)} (${number(row.min)}–${number(row.max)})`;
    return (
      (isLeast(results, row) ? `at least ${figures}, the load's limit` : figures) +
      shortLoad(results, row) +
      (row.runs === runs ? "" : `, ${row.runs} runs`)
    );
  };
  const lines = [
    ["case", ...columns],
    ["---", ...columns.map(() => "---:")],
    ...unique(rows.map((row) => row.case)).map((name) => [name, ...columns.map((one) => cell(name, one))]),
  ].map((cells) => `| ${cells.join(" | ")} |`);
  const on =
    typeof results.machine === "string" ? results.machine : Object.values(results.machine).join(", ");
  const units = unique(rows.map(({ unit }) => unit)).join(", ");
  const differ = rows.some((row) => row.runs !== runs) ? ", or as many as the row says" : "";
  const caption = `${metric}, ${units}: median (least–most) of ${runs} run${runs === 1 ? "" : "s"}${differ}; ${days(results, rows)}, ${on}; \`${commandOf(results)}\``;
  return `${lines.join("\n")}\n\n${caption}`;
}

/** In words where each of two subjects has the better median. `metrics`: `lag-p99-` where less is better, `sustained+`. */
export function besideOf(results, subjects, metrics) {
  const ahead = subjects.map(() => []);
  const undecided = [];
  for (const [, metric, sign] of metrics.map((one) => /^(.*)([+-])$/.exec(one))) {
    const cases = unique(results.rows.filter((row) => row.metric === metric).map((row) => row.case));
    const won = subjects.map(() => []);
    for (const name of cases) {
      const both = subjects.map((subject) => find(results, name, subject, metric));
      // Rates that only one of them reached compare nothing.
      if (both.includes(undefined) || both.some((row) => shortLoad(results, row) !== "")) continue;
      const [a, b] = both;
      const first = sign === "+" ? a.median > b.median : a.median < b.median;
      const [loser, winner] = first ? [b, 0] : [a, 1];
      if (a.median === b.median || isLeast(results, loser)) undecided.push(`\`${metric}\``);
      else won[winner].push(name);
    }
    won.forEach((names, i) => {
      const all = won.every((list, j) => j === i || list.length === 0);
      if (names.length > 0) ahead[i].push(`\`${metric}\`${all ? "" : ` (${names.join(", ")})`}`);
    });
  }
  const says = subjects.flatMap((subject, i) =>
    ahead[i].length === 0 ? [] : [`${subject} is ahead in ${inWords(ahead[i])}`],
  );
  const open = undecided.length === 0 ? [] : [`${inWords(unique(undecided))} is not decided`];
  return `By the medians, ${[...says, ...open].join("; ")}.`;
}

/** `ipv6: of 2000 connections none was lost in 118 runs of 12 faults ...`. */
export function lostOf(results, subject) {
  const rows = results.rows.filter((row) => row.metric === "lost" && row.subject === subject);
  const runs = rows.reduce((sum, row) => sum + row.runs, 0);
  const bad = rows.filter((row) => row.max > 0);
  const missing = (results.perRepeat ?? []).filter((one) => one.subject === subject && one.notMeasured > 0);
  const said = [
    bad.length === 0
      ? "none was lost"
      : `${inWords(bad.map((row) => `${number(row.max)} in the worst run of ${row.case}`))} ${bad.length === 1 && bad[0].max === 1 ? "was" : "were"} lost, otherwise none`,
    ...missing.map((one) => `${one.notMeasured} more of ${one.case} could not be measured`),
  ];
  return `\`${results.variant}\`: of ${results.connections} connections in each of ${runs} runs over ${rows.length} faults, ${said.join("; ")} (${results.date.slice(0, 10)}).`;
}

const makers = {
  figures: (results, [metric, subjects]) => tableOf(results, metric, subjects?.split(",")),
  beside: (results, [subjects, metrics]) => besideOf(results, subjects.split(","), metrics.split(",")),
  lost: (results, [subject]) => lostOf(results, subject),
};

function content(kind, [bench, ...rest]) {
  const file = new URL(`bench/results/${bench}.json`, root);
  if (!existsSync(file)) return `_Not measured yet: \`npm run bench:${bench}\`._`;
  return makers[kind](JSON.parse(readFileSync(file, "utf8")), rest);
}

/** The text with every block of figures made anew, formatted as `npm run check` wants it. */
export const withFigures = async (text) =>
  format(
    text.replaceAll(
      block,
      (_, open, kind, words, close) => `${open}\n${content(kind, words.split(" "))}\n\n${close}`,
    ),
    { parser: "markdown", printWidth: 110 },
  );

/** The documents that may hold figures. */
export const documents = () => [
  new URL("README.md", root),
  ...readdirSync(new URL("docs/guide/", root))
    .filter((name) => name.endsWith(".md"))
    .map((name) => new URL(`docs/guide/${name}`, root)),
];

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const file of documents()) {
    const before = readFileSync(file, "utf8");
    const now = await withFigures(before);
    if (now === before) continue;
    if (process.argv.includes("--check")) {
      console.error(
        `${file.pathname}: figures are not those of bench/results; run: node scripts/figures.mjs`,
      );
      process.exitCode = 1;
    } else writeFileSync(file, now);
  }
}
