/** The sites of `npm run bench:connections`: the same drills, another way for the packets. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseDocument } from "yaml";

const example = (name: string): string =>
  readFileSync(new URL(`../../examples/${name}/site.yaml`, import.meta.url), "utf8");

function masqueraded(text: string): string {
  const site = parseDocument(text);
  site.setIn(["services", "web", "forward", "masquerade"], "10.1.0.1");
  return String(site);
}

/** 10.N.0.x becomes 2001:db8:N::x, on both networks. */
function six(text: string): string {
  const site = parseDocument(text);
  site.deleteIn(["services", "dns"]);
  site.deleteIn(["pools", "resolvers"]);
  const address = (network: string, host: string): string =>
    `2001:db8:${network}::${host === "0" ? "" : host}`;
  return String(site)
    .replaceAll(
      /\b10\.(\d)\.0\.(\d+)\/24/g,
      (_, network: string, host: string) => `"${address(network, host)}/64"`,
    )
    .replaceAll(
      /"?\b10\.(\d)\.0\.(\d+):(\d+(?:\/tcp)?)"?/g,
      (_, network: string, host: string, port: string) => `"[${address(network, host)}]:${port}"`,
    )
    .replaceAll(
      /\b10\.(\d)\.0\.(\d+)\b/g,
      (_, network: string, host: string) => `"${address(network, host)}"`,
    );
}

const variants = {
  /** The backends see the client's address. */
  preserved: () => example("two-tier"),
  masquerade: () => masqueraded(example("two-tier")),
  ipv6: () => six(example("two-tier")),
  /** Each node Active for one of two routers, the same pool behind both. */
  "active-active": () => example("active-active"),
} as const;
export type Variant = keyof typeof variants;
export const VARIANTS = Object.keys(variants) as Variant[];

/** Its site file, in a directory that goes when this process does. */
export function variantFile(variant: Variant): string {
  const directory = mkdtempSync(join(tmpdir(), "nines-bench-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "site.yaml");
  writeFileSync(file, variants[variant]());
  return file;
}
