/**
 * Common-cause groups: members that share a design, a build or a maker fail together more often than chance
 * has it. A member becomes an or of its own failure and of every joint failure that includes it.
 */
import { type Result, fail, ok, unreachable } from "../../base/result.ts";
import type { FaultTree, Literal } from "./tree.ts";

export type CommonCauseModel = "beta-factor" | "MGL" | "alpha-factor" | "phi-factor";

/** Beyond this, the joint failures of a group of all sizes would be too many to spell out. */
const MAX_MEMBERS = 12;

function choose(n: number, k: number): number {
  let result = 1;
  for (let i = 1; i <= k; i++) result = (result * (n - k + i)) / i;
  return Math.round(result);
}

/**
 * The probability of one particular joint failure per size: `result[k]` for k members, from the total
 * probability `q` of a member. `factors` by level: beta [level n]; MGL from level 2; alpha, phi from level 1.
 */
export function jointProbabilities(
  model: CommonCauseModel,
  members: number,
  q: number,
  factors: readonly number[],
): Result<Float64Array> {
  const result = new Float64Array(members + 1);
  if (members < 2) return fail("a common-cause group has at least two members");
  const bad = factors.find((factor) => !(factor >= 0 && factor <= 1));
  if (bad !== undefined) return fail(`a common-cause factor is 0..1, not ${bad}`);
  switch (model) {
    case "beta-factor": {
      const [beta] = factors;
      if (beta === undefined || factors.length !== 1) return fail("a beta-factor group has one factor");
      result[1] = (1 - beta) * q;
      result[members] = beta * q;
      return ok(result);
    }
    case "MGL": {
      if (factors.length < 1 || factors.length > members - 1)
        return fail(`an MGL group of ${members} has 1 to ${members - 1} factors, not ${factors.length}`);
      let product = 1;
      for (let k = 1; k <= factors.length + 1; k++) {
        const next = factors[k - 1] ?? 0;
        result[k] = (product * (1 - next) * q) / choose(members - 1, k - 1);
        product *= next;
      }
      return ok(result);
    }
    case "alpha-factor": {
      if (factors.length < 1 || factors.length > members)
        return fail(`an alpha-factor group of ${members} has 1 to ${members} factors, not ${factors.length}`);
      const total = factors.reduce((sum, alpha, i) => sum + alpha * (i + 1), 0);
      if (total === 0) return fail("the alpha factors are all 0");
      for (let k = 1; k <= factors.length; k++)
        result[k] = ((k / choose(members - 1, k - 1)) * factors[k - 1]! * q) / total;
      return ok(result);
    }
    case "phi-factor": {
      if (factors.length < 1 || factors.length > members)
        return fail(`a phi-factor group of ${members} has 1 to ${members} factors, not ${factors.length}`);
      const sum = factors.reduce((total, phi) => total + phi, 0);
      if (Math.abs(sum - 1) > 1e-6) return fail(`phi factors sum to 1, not ${sum}`);
      for (let k = 1; k <= factors.length; k++) result[k] = factors[k - 1]! * q;
      return ok(result);
    }
    default:
      return unreachable(model);
  }
}

/** A joint failure that was added: `size` names the entry of `jointProbabilities` it takes its value from. */
export interface JointEvent {
  readonly event: Literal;
  readonly size: number;
}

/**
 * Rewires every gate of `tree` that uses a member. The members' own events stay (with no use); new events
 * `[a b]` are added for the joint failures and `[a]` for the independent ones.
 */
export function applyCommonCause(
  tree: FaultTree,
  group: string,
  members: readonly Literal[],
  joint: Float64Array,
): Result<JointEvent[]> {
  const n = members.length;
  const sizes: number[] = [];
  for (let k = 2; k <= n; k++) if (joint[k]! > 0) sizes.push(k);
  const onlyAll = sizes.every((size) => size === n);
  if (!onlyAll && n > MAX_MEMBERS)
    return fail(`common-cause group "${group}" has ${n} members; ${MAX_MEMBERS} at most for this model`);
  const events: JointEvent[] = [];
  const users: Literal[][] = members.map(() => []);
  const add = (who: readonly number[], size: number): void => {
    const name = `[${who.map((i) => tree.nameOf(members[i]!)).join(" ")}]`;
    const event = tree.event(who.length === n && n > 4 ? `[all of ${group}]` : name, joint[size]!);
    events.push({ event, size });
    for (const i of who) users[i]!.push(event);
  };
  for (let i = 0; i < n; i++) add([i], 1);
  if (onlyAll) {
    if (sizes.length > 0)
      add(
        members.map((_, i) => i),
        n,
      );
  } else {
    for (let mask = 1; mask < 1 << n; mask++) {
      const who = members.map((_, i) => i).filter((i) => (mask >> i) & 1);
      if (who.length > 1 && joint[who.length]! > 0) add(who, who.length);
    }
  }
  const known = tree.nodes.length;
  const replacement = new Map<number, Literal>();
  members.forEach((member, i) => {
    replacement.set(member >> 1, tree.or(`${tree.nameOf(member)} (any cause)`, ...users[i]!));
  });
  for (let node = 0; node < known; node++) {
    const value = tree.nodes[node]!;
    if (value.kind !== "gate") continue;
    value.inputs = value.inputs.map((input) => {
      const other = replacement.get(input >> 1);
      return other === undefined ? input : other ^ (input & 1);
    });
  }
  const top = replacement.get(tree.top >> 1);
  if (top !== undefined) tree.top = top ^ (tree.top & 1);
  return ok(events);
}
