/** What is written down. Instants are wall-clock milliseconds since 1970: accounts outlive reboots. */
export type Fact =
  /** The service stopped or resumed serving; `cause` in a sentence. */
  | { readonly kind: "down"; readonly at: number; readonly service: string; readonly cause: string }
  | { readonly kind: "up"; readonly at: number; readonly service: string }
  /** An outage known as a whole: entered by hand, or found by a probe outside. */
  | {
      readonly kind: "outage";
      readonly from: number;
      readonly to: number;
      readonly service: string;
      readonly cause: string;
    }
  /** Answers between two instants. */
  | {
      readonly kind: "requests";
      readonly from: number;
      readonly to: number;
      readonly service: string;
      readonly good: number;
      readonly bad: number;
    }
  /** Somebody is looking. Written every minute: time without it is not known to have been good. */
  | { readonly kind: "watch"; readonly at: number }
  /** Many of them, as kept in memory. */
  | { readonly kind: "watched"; readonly from: number; readonly to: number };

/** A watch may be this late before time counts as unobserved. */
export const WATCH_GAP = 150_000;

/** Chains of watches become one fact each: a month has 43,200 of them. The array is changed and returned. */
export function addFact(facts: Fact[], fact: Fact): Fact[] {
  if (fact.kind !== "watch") {
    facts.push(fact);
    return facts;
  }
  const last = facts.findLastIndex(({ kind }) => kind === "watched");
  const chain = facts[last];
  if (chain?.kind === "watched" && fact.at - chain.to <= WATCH_GAP)
    facts[last] = { kind: "watched", from: chain.from, to: fact.at };
  else facts.push({ kind: "watched", from: fact.at, to: fact.at });
  return facts;
}

export const instantOf = (fact: Fact): number => ("at" in fact ? fact.at : fact.to);

/** A fact as it comes from a file: undefined where it is none. */
export function readFact(value: unknown): Fact | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const fact = value as Record<string, unknown>;
  const numbers = (...keys: string[]): boolean => keys.every((key) => Number.isFinite(fact[key]));
  const texts = (...keys: string[]): boolean => keys.every((key) => typeof fact[key] === "string");
  switch (fact["kind"]) {
    case "down":
      return numbers("at") && texts("service", "cause") ? (value as Fact) : undefined;
    case "up":
      return numbers("at") && texts("service") ? (value as Fact) : undefined;
    case "outage":
      return numbers("from", "to") && texts("service", "cause") ? (value as Fact) : undefined;
    case "requests":
      return numbers("from", "to", "good", "bad") && texts("service") ? (value as Fact) : undefined;
    case "watch":
      return numbers("at") ? (value as Fact) : undefined;
    default:
      return undefined;
  }
}
