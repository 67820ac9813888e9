/**
 * Whom somebody's input chain lets in, as far as its rules say it plainly. What is not read here (sets, maps, other
 * programs' matches) counts as accepted: a firewall that is in order must not be called broken.
 */
import type { Expression, NftChain, NftRule } from "./model.ts";

/** What an accepting rule lets in; a part that is absent is any. */
export interface Admission {
  readonly protocols?: readonly number[];
  readonly ports?: readonly number[];
}

/** The keys of the sets that rules look into; one that is missing, or holds ranges, is not read. */
export type SetKeys = ReadonlyMap<string, readonly Uint8Array[]>;

type Of<K extends Expression["kind"]> = Extract<Expression, { readonly kind: K }>;

/** What a register holds. */
type Held = "protocol" | "port" | "link" | "state" | "other";

const LOOPBACK = [0x6c, 0x6f, 0];
const isLoopback = (value: Uint8Array): boolean =>
  LOOPBACK.every((byte, i) => value[i] === byte) || (value.length === 4 && value[0] === 1 && value[1] === 0);

/** Offsets of the protocol in the heads of IPv4 and IPv6. */
const PROTOCOL_AT = [9, 6];

function loads(one: Expression): readonly [register: number, held: Held] | undefined {
  if (one.kind === "meta")
    return [
      one.register,
      one.key === "l4proto" ? "protocol" : one.key === "iif" || one.key === "iifname" ? "link" : "other",
    ];
  if (one.kind === "ct") return [one.register, one.key === "state" ? "state" : "other"];
  if (one.kind === "fib") return [one.register, "other"];
  if (one.kind !== "payload") return undefined;
  const { base, offset, length, register } = one;
  if (base === "network" && length === 1 && PROTOCOL_AT.includes(offset)) return [register, "protocol"];
  return [register, base === "transport" && offset === 2 && length === 2 ? "port" : "other"];
}

/** The values of which a register must have one; undefined where that is not plain. */
function valuesOf(one: Of<"lookup" | "range" | "cmp">, sets: SetKeys): readonly Uint8Array[] | undefined {
  if (one.kind === "cmp") return one.op === "eq" ? [one.value] : undefined;
  return one.kind === "lookup" && one.negate !== true && one.into === undefined
    ? sets.get(one.set)
    : undefined;
}

/** What a rule accepts that begins a conversation from outside; undefined where it accepts no such thing. */
function admissionOf({ expressions }: NftRule, sets: SetKeys): Admission | undefined {
  const registers = new Map<number, Held>();
  const said: { protocols?: readonly number[]; ports?: readonly number[] } = {};
  let [accepts, state, narrowed] = [false, false, false];
  for (const one of expressions) {
    const loaded = loads(one);
    if (loaded !== undefined) registers.set(...loaded);
    else if (one.kind === "bitwise") registers.set(one.to, registers.get(one.from) ?? "other");
    else if (one.kind === "verdict") accepts = one.verdict.code === "accept";
    else if (one.kind === "unknown") narrowed ||= one.name !== "log";
    else if (one.kind === "lookup" || one.kind === "range" || one.kind === "cmp") {
      if (one.kind === "lookup" && one.into === "verdict") accepts = true;
      const held = registers.get(one.register) ?? "other";
      const values = valuesOf(one, sets);
      if (held === "state") state = true;
      else if (values === undefined) narrowed = true;
      else if (held === "protocol") said.protocols = values.map(([first = 0]) => first);
      else if (held === "port") said.ports = values.map(([high = 0, low = 0]) => (high << 8) | low);
      else if (held === "link" && values.every(isLoopback)) return undefined;
      else narrowed = true;
    }
  }
  const onlyAnswers = state && !narrowed && said.protocols === undefined && said.ports === undefined;
  return accepts && !onlyAnswers ? said : undefined;
}

/** A rule that refuses all that comes to it. */
function refusesAll({ expressions }: NftRule): boolean {
  const refuses = (one: Expression): boolean =>
    one.kind === "reject" || (one.kind === "verdict" && one.verdict.code === "drop");
  return (
    expressions.some(refuses) &&
    expressions.every(
      (one) => refuses(one) || one.kind === "counter" || (one.kind === "unknown" && one.name === "log"),
    )
  );
}

/** The chains that a packet may pass from `first` on; all that are nobody's hook where a map says which. */
function reached(first: string, chains: readonly NftChain[], rules: ReadonlyMap<string, readonly NftRule[]>) {
  const seen = new Set([first]);
  for (const name of seen)
    for (const one of (rules.get(name) ?? []).flatMap(({ expressions }) => expressions)) {
      if (one.kind === "verdict" && "chain" in one.verdict) seen.add(one.verdict.chain);
      if (one.kind === "lookup" && one.into === "verdict")
        for (const chain of chains) if (chain.hook === undefined) seen.add(chain.name);
    }
  return seen;
}

/** The input chains of one table that refuse what no rule accepts, and what their rules accept. */
export function closedInputs(
  chains: readonly NftChain[],
  rules: ReadonlyMap<string, readonly NftRule[]>,
  sets: SetKeys,
): { readonly chain: string; readonly admits: readonly Admission[] }[] {
  return chains.flatMap(({ name, hook }) => {
    if (hook?.hook !== "input") return [];
    const mine = [...reached(name, chains, rules)].flatMap((one) => rules.get(one) ?? []);
    if (hook.policy !== "drop" && !(rules.get(name) ?? []).some(refusesAll)) return [];
    return [{ chain: name, admits: mine.flatMap((rule) => admissionOf(rule, sets) ?? []) }];
  });
}
