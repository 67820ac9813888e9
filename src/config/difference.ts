/**
 * What is different between two sites: for a reload, which touches only that, and for people, who read what
 * it touched. Pure.
 */
import { type IpAddress, formatIpPort } from "../base/addresses.ts";
import { formatDuration } from "../base/units.ts";
import type { DurationMs } from "../base/time.ts";
import { durationKeys, sizeKeys } from "./explain/keys.ts";
import type { Site } from "./schema/site.ts";
import { type Path, formatPath } from "./source/positions.ts";

export interface Change {
  readonly kind: "added" | "removed" | "changed";
  /** The object that is touched: `["pools", "apps"]`; a single part where a whole section is: `["lab"]`. */
  readonly object: Path;
  /** Inside the object; empty where all of it was added or removed. */
  readonly path: Path;
  readonly before?: unknown;
  readonly after?: unknown;
}

/** The sections whose entries are objects with a name. */
const named: Readonly<Record<string, string>> = {
  nodes: "node",
  virtualRouters: "virtual router",
  pools: "pool",
  services: "service",
  drills: "drill",
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Equal in what they say: the order of keys and keys that are undefined say nothing. */
function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a === "function" && typeof b === "function") return String(a) === String(b);
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, i) => same(item, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  return [...keysOf(a, b)].every((key) => same(a[key], b[key]));
}

const keysOf = (a: object, b: object): Set<string> => new Set([...Object.keys(a), ...Object.keys(b)]);

/** In the order of the sections, then of the names in the older and the newer site. */
export function siteDifference(before: Site, after: Site): Change[] {
  const changes: Change[] = [];
  for (const section of keysOf(before, after)) {
    const [old, now] = [before[section as keyof Site], after[section as keyof Site]] as unknown[];
    if (section in named && isObject(old) && isObject(now)) {
      for (const name of keysOf(old, now)) compare(old[name], now[name], [section, name], [], changes);
    } else compare(old, now, [section], [], changes);
  }
  return changes;
}

function compare(before: unknown, after: unknown, object: Path, path: Path, changes: Change[]): void {
  if (same(before, after)) return;
  if (before === undefined) changes.push({ kind: "added", object, path, after });
  else if (after === undefined) changes.push({ kind: "removed", object, path, before });
  else if (isObject(before) && isObject(after) && leafText(before) === undefined) {
    for (const key of keysOf(before, after))
      compare(before[key], after[key], object, [...path, key], changes);
  } else if (Array.isArray(before) && Array.isArray(after))
    compareLists(before, after, object, path, changes);
  else changes.push({ kind: "changed", object, path, before, after });
}

/** Lists of one length are compared item by item; otherwise by what came and what went, else by their order. */
function compareLists(
  before: readonly unknown[],
  after: readonly unknown[],
  object: Path,
  path: Path,
  changes: Change[],
): void {
  const gone = before.filter((item) => !after.some((other) => same(item, other)));
  const come = after.filter((item) => !before.some((other) => same(item, other)));
  const isItemwise =
    before.length === after.length && before.every((item) => isObject(item) && leafText(item) === undefined);
  if (isItemwise && gone.length > 0) {
    for (const [index, item] of before.entries())
      compare(item, after[index], object, [...path, index], changes);
    return;
  }
  for (const item of gone) changes.push({ kind: "removed", object, path, before: item });
  for (const item of come) changes.push({ kind: "added", object, path, after: item });
  if (gone.length === 0 && come.length === 0) changes.push({ kind: "changed", object, path, before, after });
}

/** Values of several fields that are written as one: address and port, a listen. */
function leafText(value: Readonly<Record<string, unknown>>): string | undefined {
  const { address, port, ports, protocol } = value;
  if (typeof address !== "string") return undefined;
  if (Object.keys(value).length === 2 && typeof port === "number")
    return formatIpPort({ address: address as IpAddress, port });
  if (!Array.isArray(ports) || typeof protocol !== "string") return undefined;
  const [low, high] = ports as [number, number];
  const from = formatIpPort({ address: address as IpAddress, port: low });
  return `${from}${high === low ? "" : `-${high}`}/${protocol}`;
}

function valueText(value: unknown, key: string | number | undefined): string {
  if (typeof value === "number" && durationKeys().has(String(key)))
    return formatDuration(value as DurationMs);
  if (typeof value === "number" && sizeKeys().has(String(key))) return `${value} bytes`;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
    return String(value);
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return `[${value.map((item) => valueText(item, key)).join(", ")}]`;
  if (!isObject(value)) return "nothing";
  const leaf = leafText(value);
  if (leaf !== undefined) return leaf;
  const parts = Object.entries(value)
    .filter(([, child]) => child !== undefined)
    .map(([name, child]) => `${name}: ${valueText(child, name)}`);
  return `{ ${parts.join(", ")} }`;
}

const shorten = (text: string): string => (text.length > 160 ? `${text.slice(0, 157)}...` : text);

/** `virtual router edge: interval is 100ms, was 1s`; `pool apps: backends.app3 added: 10.1.0.13:8080`. */
export function describeChange({ kind, object, path, before, after }: Change): string {
  const [section = "", name] = object;
  const what = name === undefined ? String(section) : `${named[section] ?? section} ${name}`;
  if (path.length === 0 && (kind !== "changed" || name !== undefined)) return `${what} ${kind}`;
  const key = path.findLast((part) => typeof part === "string") ?? section;
  const where = path.length === 0 ? "" : `${path.length === 0 ? "" : ": "}${formatPath(path)}`;
  if (kind === "changed") {
    const old = valueText(before, key);
    return shorten(`${what}${where} is ${valueText(after, key)}, was ${old}`);
  }
  return shorten(`${what}${where} ${kind}: ${valueText(kind === "added" ? after : before, key)}`);
}
