import { createHash } from "node:crypto";

/**
 * The canonical form of what a site file says: keys sorted, comments and layout gone. It is taken of the
 * file's own values and not of the completed site: a newer program with one default more must not make
 * two nodes with the same file look different while they are upgraded one after the other.
 */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
      .filter(([, child]) => child !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, child]) => `${JSON.stringify(key)}:${canonical(child)}`).join(",")}}`;
  }
  // Middleware of a site.ts: its source says what it does.
  if (typeof value === "function") return JSON.stringify(String(value));
  return JSON.stringify(value) ?? "null";
}

/** SHA-256 in hexadecimal; equal exactly where two files say the same. */
export const siteDigest = (input: unknown): string =>
  createHash("sha256").update(canonical(input)).digest("hex");
