import { type IpPrefix, parseIp, prefixContains } from "../../base/addresses.ts";
import type { RouteSettings, TextMatch } from "../../contracts/site.ts";

/** What a route may ask of a request. */
export interface MatchInput {
  /** Lower case, without a port. */
  readonly host: string;
  /** Without the query. */
  readonly path: string;
  /** With its question mark; empty without one. */
  readonly query: string;
  readonly method: string;
  /** After trusted proxies. */
  readonly client: string;
  /** All values of a field, joined. */
  field(id: number): string | undefined;
}

export interface Condition {
  /** For `explain`: `host is one of a.example`. */
  readonly what: string;
  test(input: MatchInput): boolean;
}

export interface MatchIds {
  idOf(name: string): number;
}

function textTest(match: TextMatch): { what: string; test: (value: string | undefined) => boolean } {
  if ("exact" in match) return { what: `= ${match.exact}`, test: (value) => value === match.exact };
  if ("present" in match)
    return {
      what: match.present ? "is present" : "is absent",
      test: (value) => (value !== undefined) === match.present,
    };
  if ("prefix" in match)
    return { what: `begins with ${match.prefix}`, test: (value) => value?.startsWith(match.prefix) === true };
  const pattern = new RegExp(match.pattern, "u");
  return { what: `matches ${match.pattern}`, test: (value) => value !== undefined && pattern.test(value) };
}

/** The value of a cookie in a Cookie header. */
export function cookieValue(header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined;
  let at = 0;
  while (at < header.length) {
    let end = header.indexOf(";", at);
    if (end < 0) end = header.length;
    const equals = header.indexOf("=", at);
    if (equals > 0 && equals < end && header.slice(at, equals).trim() === name) {
      const value = header.slice(equals + 1, end).trim();
      return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
    }
    at = end + 1;
  }
  return undefined;
}

/** The first value of a query parameter, decoded; the raw text where its escapes are broken. */
export function queryValue(query: string, name: string): string | undefined {
  for (const part of query.slice(1).split("&")) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals);
    if (key !== name && decode(key) !== name) continue;
    return equals < 0 ? "" : decode(part.slice(equals + 1));
  }
  return undefined;
}

function decode(text: string): string {
  if (!text.includes("%") && !text.includes("+")) return text;
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

/** `*.example.org` takes a.example.org and a.b.example.org, not example.org. */
export const hostMatches = (pattern: string, host: string): boolean =>
  pattern.startsWith("*.")
    ? host.length > pattern.length - 1 && host.endsWith(pattern.slice(1))
    : pattern === host;

export function inPrefixes(prefixes: readonly IpPrefix[], client: string): boolean {
  if (prefixes.length === 0) return false;
  const parsed = parseIp(client);
  return parsed.ok && prefixes.some((prefix) => prefixContains(prefix, parsed.value));
}

/** A route's conditions besides the host, cheapest first. All must hold. */
export function compileConditions(match: RouteSettings["match"], ids: MatchIds): Condition[] {
  const conditions: Condition[] = [];
  const { method, path, headers, cookies, query, client } = match;
  if (method !== undefined) {
    conditions.push({
      what: `method is ${method.join(" or ")}`,
      test: (input) => method.includes(input.method),
    });
  }
  if (path !== undefined) {
    const tests = path.map((one): ((text: string) => boolean) => {
      if ("exact" in one) return (text) => text === one.exact;
      if ("prefix" in one) return (text) => text.startsWith(one.prefix);
      const pattern = new RegExp(one.pattern, "u");
      return (text) => pattern.test(text);
    });
    conditions.push({
      what: `path is ${path.map((one) => Object.values(one).join("")).join(" or ")}`,
      test: (input) => tests.some((test) => test(input.path)),
    });
  }
  for (const [name, wanted] of Object.entries(headers ?? {})) {
    const id = ids.idOf(name);
    const { what, test } = textTest(wanted);
    conditions.push({ what: `header ${name} ${what}`, test: (input) => test(input.field(id)) });
  }
  const cookieId = ids.idOf("cookie");
  for (const [name, wanted] of Object.entries(cookies ?? {})) {
    const { what, test } = textTest(wanted);
    conditions.push({
      what: `cookie ${name} ${what}`,
      test: (input) => test(cookieValue(input.field(cookieId), name)),
    });
  }
  for (const [name, wanted] of Object.entries(query ?? {})) {
    const { what, test } = textTest(wanted);
    conditions.push({ what: `query ${name} ${what}`, test: (input) => test(queryValue(input.query, name)) });
  }
  if (client !== undefined) {
    conditions.push({
      what: `client is in ${client.map((p) => `${p.address}/${p.length}`).join(" or ")}`,
      test: (input) => inPrefixes(client, input.client),
    });
  }
  return conditions;
}

/** A route with its conditions, as the router keeps it. */
export interface Routable {
  readonly hosts: readonly string[] | undefined;
  readonly conditions: readonly Condition[];
}

const HOSTS_KEPT = 1000;

/** Finds the first route that takes a request. Which routes a host can reach is worked out once a host. */
export class Router<R extends Routable> {
  readonly routes: readonly R[];
  readonly #byHost = new Map<string, readonly R[]>();
  /** The route that takes everything, where it is the only one. */
  readonly #only: R | undefined;

  constructor(routes: readonly R[]) {
    this.routes = routes;
    const [first] = routes;
    if (first !== undefined && first.hosts === undefined && first.conditions.length === 0) this.#only = first;
  }

  find(input: MatchInput): R | undefined {
    if (this.#only !== undefined) return this.#only;
    const candidates = this.#candidates(input.host);
    next: for (const route of candidates) {
      for (const condition of route.conditions) if (!condition.test(input)) continue next;
      return route;
    }
    return undefined;
  }

  /** For every route tried: why not, or that it takes the request. */
  explain(input: MatchInput): { route: R; failed: string | undefined }[] {
    const out: { route: R; failed: string | undefined }[] = [];
    for (const route of this.routes) {
      const failed =
        route.hosts !== undefined && !route.hosts.some((host) => hostMatches(host, input.host))
          ? `host is ${route.hosts.join(" or ")}`
          : route.conditions.find((condition) => !condition.test(input))?.what;
      out.push({ route, failed });
      if (failed === undefined) break;
    }
    return out;
  }

  #candidates(host: string): readonly R[] {
    let found = this.#byHost.get(host);
    if (found === undefined) {
      found = this.routes.filter(
        (route) => route.hosts === undefined || route.hosts.some((pattern) => hostMatches(pattern, host)),
      );
      // Hosts are the client's choice: the memory for them is bounded.
      if (this.#byHost.size >= HOSTS_KEPT) this.#byHost.clear();
      this.#byHost.set(host, found);
    }
    return found;
  }
}
