// Figures in documents come from bench/results. `node scripts/figures.mjs` rewrites every block between
//   <!-- figures: BENCH METRIC [SUBJECT,SUBJECT] -->  and  <!-- /figures -->
// with a table of that metric: a row per case, a column per subject, median (min to max). `--check` only compares.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { format } from "prettier";

const root = new URL("../", import.meta.url);
const block = /(<!-- figures: (\S+) (\S+)(?: (\S+))? -->\n)[\s\S]*?(<!-- \/figures -->)/g;

const number = (value) =>
  Math.abs(value) >= 100 || Number.isInteger(value)
    ? String(Math.round(value))
    : value.toFixed(Math.abs(value) < 1 ? 3 : 1);

function table(bench, metric, subjects) {
  const file = new URL(`bench/results/${bench}.json`, root);
  if (!existsSync(file)) return `\n_Not measured yet: \`npm run bench:${bench}\`._\n\n`;
  const { rows, date, machine } = JSON.parse(readFileSync(file, "utf8"));
  const of = rows.filter((row) => row.metric === metric);
  const columns = subjects ?? [...new Set(of.map((row) => row.subject))];
  const cases = [...new Set(of.map((row) => row.case))];
  const cell = (name, subject) => {
    const row = of.find((each) => each.case === name && each.subject === subject);
    return row === undefined ? "–" : `${number(row.median)} (${number(row.min)}–${number(row.max)})`;
  };
  const lines = [
    ["case", ...columns],
    ["---", ...columns.map(() => "---:")],
    ...cases.map((name) => [name, ...columns.map((subject) => cell(name, subject))]),
  ].map((cells) => `| ${cells.join(" | ")} |`);
  const runs = Math.max(...of.map((row) => row.runs));
  const on = typeof machine === "string" ? machine : Object.values(machine).join(", ");
  const units = [...new Set(of.map(({ unit }) => unit))].join(", ");
  const caption = `${metric}, ${units}: median (least–most) of ${runs} runs; ${date.slice(0, 10)}, ${on}; \`npm run bench:${bench}\``;
  return `\n${lines.join("\n")}\n\n${caption}\n\n`;
}

/** The text with every block of figures made anew, formatted as `npm run check` wants it. */
export const withFigures = async (text) =>
  format(
    text.replaceAll(
      block,
      (_, open, bench, metric, subjects, close) => open + table(bench, metric, subjects?.split(",")) + close,
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
