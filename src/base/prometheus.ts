/** Prometheus' text format, for samples that are added up already. Pure. */
interface Sample {
  readonly name: string;
  readonly help: string;
  readonly kind: "gauge" | "counter" | "histogram";
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly buckets?: readonly { readonly to: number; readonly count: number }[];
}

const escape = (text: string): string => text.replaceAll(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`));

/** Samples of one name lie together in the text, as the format wants it. */
export function prometheusText(samples: readonly Sample[]): string {
  const byName = new Map<string, string[]>();
  for (const { name, help, kind, labels, value, buckets = [] } of samples) {
    let lines = byName.get(name);
    if (lines === undefined) byName.set(name, (lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`]));
    const own = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
    const braces = (all: readonly string[]): string => (all.length === 0 ? "" : `{${all.join(",")}}`);
    if (kind !== "histogram") {
      lines.push(`${name}${braces(own)} ${value}`);
      continue;
    }
    let sum = 0;
    for (const { to, count } of buckets) {
      sum += count;
      const bound = `le="${to === Number.POSITIVE_INFINITY ? "+Inf" : to}"`;
      lines.push(`${name}_bucket${braces([...own, bound])} ${sum}`);
    }
    lines.push(`${name}_sum${braces(own)} ${value}`, `${name}_count${braces(own)} ${sum}`);
  }
  return [...byName.values()].map((lines) => `${lines.join("\n")}\n`).join("");
}
