import { type Command, InvalidArgumentError } from "commander";
import { parseDuration } from "../../base/units.ts";

interface NinesOptions {
  json?: boolean;
  cloud?: boolean;
}

export function registerNines(program: Command): void {
  program
    .command("nines")
    .description("convert availability to downtime and back: nines 99.95, nines 26m/30d, or the whole table")
    .argument("[value]", "99.95, three nines as 3n, or downtime per window: 4.38h/year, 10m/30d", percentOf)
    .option("--json", "for programs")
    .option("--cloud", "what the big clouds promise, with source and date")
    .action(async (value: string | undefined, options: NinesOptions) => {
      const [{ CLOUD_PROMISES }, words, { painter, table }] = await Promise.all([
        import("../../availability/model/clouds.ts"),
        import("../../availability/model/words.ts"),
        import("../paint.ts"),
      ]);
      const paint = painter();
      const { NINES_TABLE, ninesOf, ninesRow, sayHours } = words;
      if (options.cloud) {
        if (options.json) console.log(JSON.stringify(CLOUD_PROMISES, undefined, 2));
        else
          console.log(
            table([
              ["name", "who", "what", "promises", "credits", "source", "date"].map((cell) =>
                paint("dim", cell),
              ),
              ...Object.entries(CLOUD_PROMISES).map(([name, one]) => [
                name,
                one.provider,
                one.what,
                `${one.percent} %`,
                one.credits.map(({ below, credit }) => `${credit} % below ${below}`).join(", "),
                paint("dim", one.source),
                paint("dim", one.date),
              ]),
            ]).join("\n"),
          );
        return;
      }
      const percents: readonly string[] = value === undefined ? NINES_TABLE : [value];
      const rows = percents.map(ninesRow);
      if (options.json) {
        console.log(JSON.stringify(value === undefined ? rows : rows[0], undefined, 2));
        return;
      }
      const say = (seconds: number): string => sayHours(seconds / 3600);
      console.log(
        table([
          ["availability", "nines", "down a year", "a month", "a week", "a day"].map((cell) =>
            paint("dim", cell),
          ),
          ...rows.map((row) => [
            paint("bold", `${row.percent} %`),
            ninesOf(row.day / 86_400) > 90 ? "all" : String(Number(ninesOf(row.day / 86_400).toFixed(2))),
            say(row.year),
            say(row.month),
            say(row.week),
            say(row.day),
          ]),
        ]).join("\n"),
      );
    });
}

const WINDOWS: Readonly<Record<string, string>> = { year: "365d", month: "30d", week: "7d", day: "1d" };

/** Downtime per window, a count of nines, or a percentage as it is. */
function percentOf(text: string): string {
  const [down, window] = text.split("/");
  if (down !== undefined && window !== undefined) {
    const [lost, whole] = [parseDuration(down), parseDuration(WINDOWS[window] ?? window)];
    if (!lost.ok) throw new InvalidArgumentError(lost.error);
    if (!whole.ok) throw new InvalidArgumentError(whole.error);
    if (lost.value > whole.value || whole.value === 0)
      throw new InvalidArgumentError(`${down} is longer than ${window}.`);
    return String(Number((100 * (1 - lost.value / whole.value)).toPrecision(8)));
  }
  const count = Number(/^(\d{1,2})n$/.exec(text)?.[1] ?? 0);
  if (count === 1 || count === 2) return "9".repeat(count).padEnd(2, "0");
  if (count > 2 && count <= 12) return `99.${"9".repeat(count - 2)}`;
  const plain = text.replace(/%$/, "");
  if (!/^\d{1,3}(\.\d{1,12})?$/.test(plain) || Number(plain) > 100)
    throw new InvalidArgumentError(`"${text}" is none of 99.95, 3n, 26m/30d, 2h/year.`);
  return plain;
}
