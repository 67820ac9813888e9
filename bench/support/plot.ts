/** A small line chart as SVG: several series over one logarithmic axis, each scaled to its own greatest value. */
interface Series {
  readonly name: string;
  readonly unit: string;
  /** In the order of the ticks. */
  readonly values: readonly number[];
}

const WIDTH = 720;
const HEIGHT = 360;
const LEFT = 20;
const RIGHT = 240;
const TOP = 40;
const BOTTOM = 50;
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

const short = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value.toFixed(value < 10 ? 1 : 0);

export function plot(
  title: string,
  axis: string,
  ticks: readonly number[],
  series: readonly Series[],
): string {
  const wide = WIDTH - LEFT - RIGHT;
  const high = HEIGHT - TOP - BOTTOM;
  const x = (i: number): number => LEFT + 20 + ((wide - 40) * i) / Math.max(1, ticks.length - 1);
  const lines = series.flatMap(({ name, unit, values }, n) => {
    const most = Math.max(...values, 1e-9);
    const y = (value: number): number => TOP + high * (1 - value / most);
    const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
    const colour = COLOURS[n % COLOURS.length] ?? "#000";
    return [
      `<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...points.map((point) => {
        const [cx = "", cy = ""] = point.split(",");
        return `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`;
      }),
      `<text x="${WIDTH - RIGHT + 20}" y="${TOP + 20 + 44 * n}" fill="${colour}">${name}</text>`,
      `<text x="${WIDTH - RIGHT + 20}" y="${TOP + 36 + 44 * n}" fill="#555">${short(Math.min(...values))} to ${short(most)} ${unit}</text>`,
    ];
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="13">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
<text x="${LEFT}" y="22" font-size="15">${title}</text>
<path d="M${LEFT} ${TOP}V${TOP + high}H${LEFT + wide}" fill="none" stroke="#888"/>
${ticks.map((tick, i) => `<text x="${x(i).toFixed(1)}" y="${TOP + high + 18}" text-anchor="middle" fill="#555">${tick}</text>`).join("\n")}
<text x="${LEFT + wide / 2}" y="${HEIGHT - 12}" text-anchor="middle" fill="#555">${axis}</text>
${lines.join("\n")}
</svg>
`;
}
