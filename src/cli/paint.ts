/** Colours where a person looks on; plain text into pipes and files, or where NO_COLOR is set. */
const codes = { red: 31, green: 32, yellow: 33, cyan: 36, bold: 1, dim: 2 } as const;
export type Colour = keyof typeof codes;
export type Paint = (colour: Colour, text: string) => string;

export const plain: Paint = (_colour, text) => text;

export function painter(stream: { isTTY?: boolean } = process.stdout): Paint {
  const wanted =
    process.env["NO_COLOR"] === undefined && (stream.isTTY === true || process.env["FORCE_COLOR"] === "1");
  return wanted ? (colour, text) => `\u001B[${codes[colour]}m${text}\u001B[0m` : plain;
}

/** What a terminal shows of it: without the colours. */
// oxlint-disable-next-line no-control-regex
export const width = (text: string): number => text.replaceAll(/\u001B\[\d+m/g, "").length;

/** Columns as wide as their widest cell, two blanks apart. */
export function table(rows: readonly (readonly string[])[], indent = ""): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, width(cell))));
  return rows.map((row) =>
    `${indent}${row.map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - width(cell))).join("  ")}`.trimEnd(),
  );
}

/** Numbers to the right, the first column and `left` ones to the left. */
export function columns(rows: readonly (readonly string[])[], left: readonly number[] = [0]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, width(cell))));
  const pad = (cell: string, i: number): string => {
    const blanks = " ".repeat((widths[i] ?? 0) - width(cell));
    return left.includes(i) ? cell + blanks : blanks + cell;
  };
  return table(
    rows.map((row) => row.map(pad)),
    "  ",
  );
}
