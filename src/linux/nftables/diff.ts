import { bytesEqual, hex } from "../../base/bytes.ts";
import type { NftChain, NftElement, NftRule, NftSet, NftTable } from "./model.ts";
import type { Place } from "./wire-objects.ts";

/** One step of a transaction. Steps are carried out in order and take effect together. */
export type NftChange = { readonly place: Place } & (
  | { readonly op: "add-table"; readonly owner: boolean; readonly persist: boolean }
  | { readonly op: "delete-table" }
  | { readonly op: "add-chain"; readonly chain: NftChain }
  | { readonly op: "delete-chain"; readonly chain: string }
  | {
      readonly op: "add-rule";
      readonly chain: string;
      readonly rule: NftRule;
      /** Handle of the rule before which it goes; at the end without. */
      readonly before?: bigint;
    }
  /** Without a handle: all rules of the chain. */
  | { readonly op: "delete-rule"; readonly chain: string; readonly handle?: bigint }
  | { readonly op: "add-set"; readonly set: NftSet }
  | { readonly op: "delete-set"; readonly set: string }
  | { readonly op: "add-elements"; readonly set: NftSet; readonly elements: readonly NftElement[] }
  | { readonly op: "delete-elements"; readonly set: NftSet; readonly elements: readonly NftElement[] }
);

const plain = (_key: string, value: unknown): unknown =>
  value instanceof Uint8Array ? hex(value) : typeof value === "bigint" ? String(value) : value;

/** Equal texts for equal rules, whatever their handles. Rules that stay are compared again and again. */
const ruleTexts = new WeakMap<NftRule, string>();
function ruleText(rule: NftRule): string {
  const known = ruleTexts.get(rule);
  if (known !== undefined) return known;
  const text = JSON.stringify([rule.expressions, rule.comment], plain);
  ruleTexts.set(rule, text);
  return text;
}

function setText(set: NftSet): string {
  const { name, key, data, interval, timeout, dynamic, size, counter, limits } = set;
  return JSON.stringify([name, key, data, interval, timeout, dynamic, size, counter || limits, limits]);
}

function sameElement(a: NftElement, b: NftElement): boolean {
  if (a === b) return true;
  if (a.comment !== b.comment || a.timeout !== b.timeout || a.connlimit !== b.connlimit) return false;
  if (a.data instanceof Uint8Array) return b.data instanceof Uint8Array && bytesEqual(a.data, b.data);
  return JSON.stringify(a.data) === JSON.stringify(b.data);
}

/** Sets that a rule reads or fills. */
const setsOf = (rule: NftRule): string[] =>
  rule.expressions.flatMap((e) => (e.kind === "lookup" || e.kind === "dynset" ? [e.set] : []));

/**
 * What rules attach to the elements that they add, by set. Each element has a copy of its own, which a changed rule does
 * not reach.
 */
function limitTexts(table: NftTable | undefined): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const { rules } of table?.chains ?? [])
    for (const { expressions } of rules)
      for (const one of expressions)
        if (one.kind === "dynset" && one.expressions)
          texts.set(one.set, `${texts.get(one.set) ?? ""}${JSON.stringify(one.expressions, plain)}`);
  return texts;
}

/**
 * What turns `current` into `desired`, in the order in which nf_tables accepts it. `current` undefined: the
 * table does not exist. Both name the same table. Counters, handles and what dynamic sets hold are left alone.
 */
export function diffTables(current: NftTable | undefined, desired: NftTable): NftChange[] {
  const place: Place = { family: desired.family, table: desired.name };
  const changes: NftChange[] = [];
  let before = current;
  // A table cannot be made persistent, or stop being so, after it was made.
  if (before && (before.persist ?? false) !== (desired.persist ?? false)) {
    changes.push({ place, op: "delete-table" });
    before = undefined;
  }
  if (!before || (desired.owner === true && before.owner !== true)) {
    changes.push({
      place,
      op: "add-table",
      owner: desired.owner ?? false,
      persist: desired.persist ?? false,
    });
  }

  const oldSets = new Map((before?.sets ?? []).map((set) => [set.name, set]));
  const newSets = new Map(desired.sets.map((set) => [set.name, set]));
  const oldLimits = limitTexts(before);
  const newLimits = limitTexts(desired);
  // A set whose definition or limit changed is made anew, and with it the rules that use it.
  const remade = new Set(
    desired.sets
      .filter((set) => {
        const old = oldSets.get(set.name);
        if (old === undefined) return false;
        const limit = oldLimits.get(set.name);
        if (limit !== undefined && limit !== newLimits.get(set.name)) return true;
        return old !== set && setText(old) !== setText(set);
      })
      .map((set) => set.name),
  );

  const oldChains = new Map((before?.chains ?? []).map((chain) => [chain.name, chain]));
  const newChains = new Map(desired.chains.map((chain) => [chain.name, chain]));
  const rehooked = (chain: NftChain, old: NftChain): boolean =>
    JSON.stringify(chain.hook) !== JSON.stringify(old.hook);

  const added: NftChange[] = [];
  const removedRules: NftChange[] = [];
  const removed: NftChange[] = [];
  for (const chain of desired.chains) {
    const old = oldChains.get(chain.name);
    if (old && rehooked(chain, old)) {
      changes.push({ place, op: "delete-rule", chain: chain.name });
      changes.push({ place, op: "delete-chain", chain: chain.name });
    }
    if (!old || rehooked(chain, old)) changes.push({ place, op: "add-chain", chain });
    const kept = old && !rehooked(chain, old) ? old.rules : [];
    const { drop, add } = diffRules(kept, chain.rules, remade);
    for (const handle of drop) removedRules.push({ place, op: "delete-rule", chain: chain.name, handle });
    for (const [rule, at] of add) {
      added.push({
        place,
        op: "add-rule",
        chain: chain.name,
        rule,
        ...(at === undefined ? {} : { before: at }),
      });
    }
  }
  for (const [name, chain] of oldChains) {
    if (newChains.has(name)) continue;
    if (chain.rules.length > 0) removedRules.push({ place, op: "delete-rule", chain: name });
    removed.push({ place, op: "delete-chain", chain: name });
  }
  changes.push(...removedRules);

  const filled: NftChange[] = [];
  for (const set of desired.sets) {
    const old = remade.has(set.name) ? undefined : oldSets.get(set.name);
    if (remade.has(set.name)) changes.push({ place, op: "delete-set", set: set.name });
    if (!old) changes.push({ place, op: "add-set", set });
    if (set.dynamic || set.unmanaged || old === set) continue;
    const { drop, add } = diffElements(old, set);
    if (drop.length > 0) changes.push({ place, op: "delete-elements", set, elements: drop });
    if (add.length > 0) filled.push({ place, op: "add-elements", set, elements: add });
  }
  for (const set of oldSets.values()) {
    if (newSets.has(set.name)) continue;
    // A verdict map holds its chains: emptied first, so that they can go in the same transaction.
    removed.unshift({ place, op: "delete-set", set: set.name });
  }
  return [...changes, ...filled, ...added, ...removed];
}

function diffElements(old: NftSet | undefined, set: NftSet): { drop: NftElement[]; add: NftElement[] } {
  const drop: NftElement[] = [];
  const add: NftElement[] = [];
  let stay = 0;
  for (const [key, element] of set.elements) {
    const have = old?.elements.get(key);
    if (have && sameElement(have, element)) {
      stay++;
      continue;
    }
    add.push(element);
    if (have) drop.push(have);
  }
  if (old && stay + drop.length < old.elements.size)
    for (const [key, element] of old.elements) if (!set.elements.has(key)) drop.push(element);
  return { drop, add };
}

/** Keeps what both have at the beginning and at the end; what lies between is replaced. */
function diffRules(
  old: readonly NftRule[],
  wanted: readonly NftRule[],
  remade: ReadonlySet<string>,
): { drop: bigint[]; add: [NftRule, bigint | undefined][] } {
  const same = (a: NftRule | undefined, b: NftRule | undefined): boolean =>
    a !== undefined &&
    b !== undefined &&
    ruleText(a) === ruleText(b) &&
    !setsOf(b).some((set) => remade.has(set));
  let head = 0;
  while (same(old[head], wanted[head])) head++;
  let tail = 0;
  while (
    tail < old.length - head &&
    tail < wanted.length - head &&
    same(old[old.length - 1 - tail], wanted[wanted.length - 1 - tail])
  ) {
    tail++;
  }
  const before = tail === 0 ? undefined : old[old.length - tail]?.handle;
  return {
    drop: old.slice(head, old.length - tail).map((rule) => rule.handle ?? 0n),
    add: wanted.slice(head, wanted.length - tail).map((rule) => [rule, before]),
  };
}
