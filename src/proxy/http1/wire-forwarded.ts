/** The field Forwarded (RFC 7239 4): pure. */
const PAIR = /\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;\s]*)\s*([,;]|$)/y;

/** What `for` says, hop by hop; "" where a hop has none. Undefined for what is no such field: nothing of it is believed. */
export function forwardedFor(value: string): string[] | undefined {
  const hops = [""];
  const pair = new RegExp(PAIR);
  for (;;) {
    const [, name, text = "", then] = pair.exec(value) ?? [];
    if (name === undefined) return undefined;
    if (name.toLowerCase() === "for")
      hops[hops.length - 1] = text.startsWith('"') ? text.slice(1, -1).replaceAll(/\\(.)/g, "$1") : text;
    if (then === "") return hops;
    if (then === ",") hops.push("");
  }
}
