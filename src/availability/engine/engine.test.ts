/* oxlint-disable typescript/no-unnecessary-type-assertion -- the linter sees tests without noUncheckedIndexedAccess */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { randomInt, seededRandom } from "../../base/random.ts";
import { analyse } from "./analysis.ts";
import { BDD_FALSE, BDD_TRUE, Bdd } from "./bdd.ts";
import { probabilityBounds } from "./bounds.ts";
import { applyCommonCause, jointProbabilities } from "./common-cause.ts";
import { compile } from "./compile.ts";
import { ExpressionContext, type Expression } from "./expression.ts";
import { fewerThan, upDistribution } from "./k-of-n.ts";
import { Evaluator } from "./probability.ts";
import { normalCdf, normalQuantile } from "./random-variates.ts";
import { sift } from "./sifting.ts";
import { switchover } from "./switchover.ts";
import { FaultTree, type GateKind, type Literal, negate } from "./tree.ts";
import { sampleTop } from "./uncertainty.ts";

/** A random tree over `events` events: gates take earlier gates and events as inputs. */
interface Plan {
  probabilities: number[];
  gates: { kind: GateKind; k: number; inputs: { pick: number; negated: boolean }[] }[];
}
const planOf = (kinds: GateKind[], negations: boolean, most: number): fc.Arbitrary<Plan> =>
  fc.record({
    probabilities: fc.array(fc.double({ min: 0.01, max: 0.99, noNaN: true }), {
      minLength: 1,
      maxLength: most,
    }),
    gates: fc.array(
      fc.record({
        kind: fc.constantFrom(...kinds),
        k: fc.integer({ min: 1, max: 4 }),
        inputs: fc.array(
          fc.record({ pick: fc.nat(), negated: negations ? fc.boolean() : fc.constant(false) }),
          { minLength: 1, maxLength: 5 },
        ),
      }),
      { minLength: 1, maxLength: 12 },
    ),
  });

function plant(plan: Plan): { tree: FaultTree; events: Literal[] } {
  const tree = new FaultTree();
  const events = plan.probabilities.map((p, i) => tree.event(`e${i}`, p));
  const nodes = [...events];
  plan.gates.forEach((gate, i) => {
    const inputs = gate.inputs.map(({ pick, negated }) => {
      const literal = nodes[nodes.length - 1 - (pick % nodes.length)]!;
      return negated ? negate(literal) : literal;
    });
    nodes.push(
      tree.gate(
        `g${i}`,
        gate.kind,
        gate.kind === "not" || gate.kind === "is" ? inputs.slice(0, 1) : inputs,
        gate.k,
      ),
    );
  });
  tree.top = nodes.at(-1)!;
  return { tree, events };
}

/** The tree's value where exactly the events in `failed` have failed. Nobody's algorithm: the definition. */
function evaluate(tree: FaultTree, failed: ReadonlySet<Literal>): boolean {
  const known = new Map<number, boolean>([[0, true]]);
  const of = (literal: Literal): boolean => {
    const node = literal >> 1;
    let value = known.get(node);
    if (value === undefined) {
      const n = tree.nodes[node]!;
      if (n.kind !== "gate") value = failed.has(node * 2);
      else {
        const count = n.inputs.map(of).filter(Boolean).length;
        value = {
          and: count === n.inputs.length,
          nand: count !== n.inputs.length,
          or: count > 0,
          is: count > 0,
          nor: count === 0,
          not: count === 0,
          xor: count % 2 === 1,
          atleast: count >= n.atLeast,
        }[n.gate];
      }
      known.set(node, value);
    }
    return (literal & 1) === 1 ? !value : value;
  };
  return of(tree.top);
}

function bruteForce(tree: FaultTree, events: readonly Literal[], p: readonly number[]) {
  let probability = 0;
  const solutions: number[] = [];
  for (let mask = 0; mask < 1 << events.length; mask++) {
    const failed = new Set(events.filter((_, i) => (mask >> i) & 1));
    if (!evaluate(tree, failed)) continue;
    solutions.push(mask);
    probability += p.reduce((product, q, i) => product * ((mask >> i) & 1 ? q : 1 - q), 1);
  }
  // Minimal: no other solution's failures are among these.
  const minimal = solutions.filter(
    (mask) => !solutions.some((other) => other !== mask && (other & mask) === other),
  );
  return { probability, minimal };
}

const asMask = (events: readonly Literal[], set: readonly number[]): number =>
  set.reduce((mask, node) => mask | (1 << events.indexOf(node * 2)), 0);

const all: GateKind[] = ["and", "or", "atleast", "not", "xor", "nand", "nor", "is"];

describe("a random tree of up to 10 events with every kind of gate", () => {
  it("has the probability, the cut sets and the importance of its definition", () => {
    fc.assert(
      fc.property(planOf(all, true, 10), (plan) => {
        const { tree, events } = plant(plan);
        const brute = bruteForce(tree, events, plan.probabilities);
        // The last one fails often, so that every order and the expansion over shared events get their turn.
        for (const options of [
          {},
          { modules: false },
          { modules: false, firstBudget: 1 },
          { modules: false, siftFrom: 2 },
        ]) {
          const result = analyse(tree, options);
          if (!result.ok) throw new Error(result.error.message);
          expect(result.value.probability).toBeCloseTo(brute.probability, 10);
          const sets = result.value.cutSets();
          if (!sets.ok) throw new Error(sets.error.message);
          const masks: number[] = [];
          sets.value.each((set) => masks.push(asMask(events, set)) > 0);
          expect(masks.sort((a, b) => a - b)).toEqual(brute.minimal);
          expect(sets.value.count).toBe(brute.minimal.length);
          const worst = sets.value.worst(3).map((set) => set.probability);
          const sorted = brute.minimal
            .map((mask) => plan.probabilities.reduce((q, p, i) => ((mask >> i) & 1 ? q * p : q), 1))
            .sort((a, b) => b - a);
          worst.forEach((value, i) => expect(value).toBeCloseTo(sorted[i]!, 12));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("has bounds that hold its probability where no diagram may be built", () => {
    for (const kinds of [["and", "or", "atleast"], all] as GateKind[][]) {
      fc.assert(
        fc.property(planOf(kinds, kinds.length > 3, 9), (plan) => {
          const { tree, events } = plant(plan);
          const { probability } = bruteForce(tree, events, plan.probabilities);
          const compiled = compile(tree, { nodeLimit: 3 });
          if (!compiled.ok) throw new Error(compiled.error.message);
          const { lower, upper } = probabilityBounds(compiled.value);
          expect(lower).toBeLessThanOrEqual(probability + 1e-12);
          expect(upper).toBeGreaterThanOrEqual(probability - 1e-12);
        }),
        { numRuns: 150 },
      );
    }
  });
});

describe("reordering", () => {
  it("turns the worst order of pairs into the best", () => {
    const pairs = 12;
    const bdd = new Bdd(1_000_000);
    // First of all pairs above all seconds: 2^12 combinations to remember.
    let any = BDD_FALSE;
    for (let i = 0; i < pairs; i++)
      any = bdd.or(any, bdd.and(bdd.node(i, BDD_TRUE, BDD_FALSE), bdd.node(pairs + i, BDD_TRUE, BDD_FALSE)));
    expect(bdd.count).toBeGreaterThan(2 ** pairs);
    const { order, roots } = sift(bdd, 1, 0, 2 * pairs, [any]);
    expect(bdd.count - 1).toBe(2 * pairs);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 2 * pairs }, (_, i) => i));
    // Partners stand side by side, and the function is the same.
    for (let i = 0; i < pairs; i++) expect(Math.abs(order[2 * i]! - order[2 * i + 1]!)).toBe(pairs);
    const value = (failed: ReadonlySet<number>): boolean => {
      let edge = roots[0]!;
      while (edge >> 1 !== 0) {
        const node = edge >> 1;
        edge = (failed.has(order[bdd.level[node]!]!) ? bdd.high[node]! : bdd.low[node]!) ^ (edge & 1);
      }
      return edge === BDD_TRUE;
    };
    expect(value(new Set([3, pairs + 3]))).toBe(true);
    expect(value(new Set([3, pairs + 4, 5, pairs + 6]))).toBe(false);
  });

  it("makes a tree exact that no order from the tree's shape fits into memory", () => {
    // Neighbours in a row of 60 fail together; the row is told in no order.
    const count = 60;
    const random = seededRandom(1);
    const tree = new FaultTree();
    const row = Array.from({ length: count }, (_, i) => tree.event(`e${i}`, 0.1));
    const pairs = row.slice(1).map((event, i) => tree.and(`p${i}`, row[i]!, event));
    for (let i = pairs.length - 1; i > 0; i--) {
      const j = randomInt(random, 0, i);
      [pairs[i], pairs[j]] = [pairs[j]!, pairs[i]!];
    }
    tree.top = tree.or("top", ...pairs);
    // None fails next to another: by what the last one did.
    let [works, failed] = [1, 0];
    for (let i = 0; i < count; i++) [works, failed] = [0.9 * (works + failed), 0.1 * works];
    const result = analyse(tree, { firstBudget: 100, nodeLimit: 100_000 });
    if (!result.ok) throw new Error(result.error.message);
    expect(result.value.exact).toBe(true);
    expect(result.value.probability).toBeCloseTo(1 - works - failed, 12);
  });
});

describe("a random coherent tree of up to 16 events", () => {
  it("agrees with brute force, limits by order and by probability included", () => {
    fc.assert(
      fc.property(planOf(["and", "or", "atleast"], false, 16), (plan) => {
        const { tree, events } = plant(plan);
        const brute = bruteForce(tree, events, plan.probabilities);
        const result = analyse(tree);
        if (!result.ok) throw new Error(result.error.message);
        expect(result.value.probability).toBeCloseTo(brute.probability, 10);
        const size = (mask: number): number => mask.toString(2).replaceAll("0", "").length;
        const chance = (mask: number): number =>
          plan.probabilities.reduce((q, p, i) => ((mask >> i) & 1 ? q * p : q), 1);
        for (const maxOrder of [1, 2, 3]) {
          const sets = result.value.cutSets({ maxOrder });
          const expected = brute.minimal.filter((mask) => size(mask) <= maxOrder);
          expect(sets.ok && sets.value.count).toBe(expected.length);
        }
        const cut = result.value.cutSets({ cutOff: 0.05 });
        const expected = brute.minimal.filter((mask) => chance(mask) >= 0.05);
        expect(cut.ok && cut.value.count).toBe(expected.length);
        // Birnbaum by its definition.
        const birnbaum = new Map(result.value.importance().map((i) => [i.event * 2, i.birnbaum]));
        events.slice(0, 3).forEach((event, i) => {
          const with1 = bruteForce(tree, events, plan.probabilities.with(i, 1)).probability;
          const with0 = bruteForce(tree, events, plan.probabilities.with(i, 0)).probability;
          expect(birnbaum.get(event) ?? 0).toBeCloseTo(with1 - with0, 10);
        });
        if (!cut.ok) return;
        const every = result.value.cutSets();
        if (!every.ok) throw new Error(every.error.message);
        expect(every.value.minCutUpperBound).toBeGreaterThanOrEqual(brute.probability - 1e-12);
        expect(every.value.rareEvent).toBeGreaterThanOrEqual(every.value.minCutUpperBound - 1e-12);
      }),
      { numRuns: 25 },
    );
  }, 30_000);
});

describe("importance", () => {
  it("of ab_bc has the published values", () => {
    const tree = new FaultTree();
    const [a, b, c] = [tree.event("a", 0.1), tree.event("b", 0.2), tree.event("c", 0.3)];
    tree.top = tree.or("top", tree.and("ab", a, b), tree.and("bc", b, c));
    const result = analyse(tree);
    if (!result.ok) throw new Error("cyclic");
    expect(result.value.probability).toBeCloseTo(0.074, 12);
    const measures = result.value.importance();
    expect(measures.map((m) => Number(m.birnbaum.toFixed(6)))).toEqual([0.14, 0.37, 0.18]);
    expect(measures.map((m) => Number(m.riskAchievement.toFixed(4)))).toEqual([2.7027, 5, 2.7027]);
    expect(measures[1]!.riskReduction).toBe(Number.POSITIVE_INFINITY);
    expect(measures[0]!.criticality).toBeCloseTo((0.14 * 0.1) / 0.074, 12);
    expect(measures[0]!.diagnostic).toBeCloseTo((0.1 * 0.2) / 0.074, 12);
    expect(measures[0]!.fussellVesely).toBeCloseTo(measures[0]!.criticality, 12);
    expect(result.value.frequency(() => 1)).toBeCloseTo(0.69, 12);
  });
});

describe("common cause in three trains of a valve and a pump, each 0.1", () => {
  const top = (model: Parameters<typeof jointProbabilities>[0] | undefined, factors: number[]): number => {
    const tree = new FaultTree();
    const kinds = ["valve", "pump"].map((kind) => [1, 2, 3].map((i) => tree.event(`${kind}${i}`, 0.1)));
    tree.top = tree.and("top", ...[0, 1, 2].map((i) => tree.or(`train${i}`, kinds[0]![i]!, kinds[1]![i]!)));
    for (const members of model === undefined ? [] : kinds) {
      const joint = jointProbabilities(model!, 3, 0.1, factors);
      if (!joint.ok) throw new Error(joint.error);
      applyCommonCause(tree, "group", members, joint.value);
    }
    const result = analyse(tree);
    if (!result.ok) throw new Error(result.error.message);
    return result.value.probability;
  };
  it("has the values that scram computes", () => {
    expect(top(undefined, [])).toBeCloseTo(0.006859, 12);
    expect(top("beta-factor", [0.2])).toBeCloseTo(0.0430804, 7);
  });
  it("refuses factors that make no sense", () => {
    expect(jointProbabilities("beta-factor", 2, 0.1, [1.5])).toMatchObject({ ok: false });
    expect(jointProbabilities("phi-factor", 3, 0.1, [0.5, 0.1, 0.1])).toMatchObject({ ok: false });
    expect(jointProbabilities("MGL", 3, 0.1, [0.5, 0.1, 0.1])).toMatchObject({ ok: false });
  });
  it("keeps a member's total probability in every model", () => {
    for (const [model, factors] of [
      ["beta-factor", [0.3]],
      ["MGL", [0.3, 0.4, 0.5]],
      ["alpha-factor", [0.7, 0.2, 0.06, 0.04]],
    ] as const) {
      const joint = jointProbabilities(model, 4, 0.01, factors);
      if (!joint.ok) throw new Error(joint.error);
      // A member is in C(3, k-1) joint failures of k members.
      const total = [1, 3, 3, 1].reduce((sum, ways, i) => sum + ways * joint.value[i + 1]!, 0);
      expect(total).toBeCloseTo(0.01, 12);
    }
  });
});

describe("k of n with members that differ", () => {
  it("agrees with brute force", () => {
    const a = [0.9, 0.99, 0.5, 0.75];
    let none = 0;
    for (let mask = 0; mask < 16; mask++) {
      const p = a.reduce((q, x, i) => q * ((mask >> i) & 1 ? x : 1 - x), 1);
      if (mask.toString(2).replaceAll("0", "").length < 3) none += p;
    }
    expect(fewerThan(3, a)).toBeCloseTo(none, 14);
    expect(upDistribution(a).reduce((x, y) => x + y)).toBeCloseTo(1, 14);
  });
});

describe("the switchover formula", () => {
  it("turns six naive nines into four honest ones", () => {
    const result = switchover({
      mtbf: 1000,
      mttr: 1,
      times: { detect: 3.6 / 3600, elect: 0, move: 0, recover: 0 },
      coverage: 0.95,
      manual: 1,
      beta: 0.05,
    });
    expect(result.naive).toBeCloseTo(1e-6, 8);
    expect(-Math.log10(result.total)).toBeCloseTo(4, 1);
    const { switching, uncovered, both, common } = result;
    expect(switching + uncovered + both + common).toBeCloseTo(result.total, 15);
  });
  it("loses coverage with the time between drills, and doubles with one crew", () => {
    const base = {
      mtbf: 1000,
      mttr: 1,
      times: { detect: 0, elect: 0, move: 0, recover: 0 },
      manual: 1,
      beta: 0,
    };
    const seldom = switchover({ ...base, coverage: 1, latent: { rate: 1e-4, drillEvery: 2000 } });
    expect(seldom.coverage).toBeCloseTo(0.9, 12);
    expect(switchover({ ...base, coverage: 1, oneCrew: true }).both).toBeCloseTo(2e-6, 15);
  });
});

describe("a Monte Carlo run", () => {
  it("holds the analytic mean in its interval, and repeats with its seed", () => {
    const tree = new FaultTree();
    const [a, b] = [tree.event("a", 0.1), tree.event("b", 0.1)];
    tree.top = tree.and("top", a, b);
    const compiled = compile(tree);
    if (!compiled.ok) throw new Error("cyclic");
    const deviate: Expression = {
      kind: "deviate",
      deviate: "beta",
      inputs: [
        { kind: "constant", value: 2 },
        { kind: "constant", value: 18 },
      ],
    };
    const run = () =>
      sampleTop(
        new Evaluator(compiled.value),
        (random) => {
          const context = new ExpressionContext(8760, random);
          const drawn = new Map([a, b].map((event) => [event >> 1, context.value(deviate)]));
          return (node) => drawn.get(node) ?? 0;
        },
        { trials: 20_000, seed: 7 },
      );
    const result = run();
    // Independent draws: the mean of the product is the product of the means, 0.1 * 0.1.
    expect(result.meanInterval[0]).toBeLessThan(0.01);
    expect(result.meanInterval[1]).toBeGreaterThan(0.01);
    expect(run().mean).toBe(result.mean);
    expect(result.quantile(0.5)).toBeLessThan(result.quantile(0.95));
  });
  it("draws every distribution around its mean", () => {
    const constant = (value: number): Expression => ({ kind: "constant", value });
    const cases: Expression[] = [
      { kind: "deviate", deviate: "uniform", inputs: [constant(1), constant(3)] },
      { kind: "deviate", deviate: "normal", inputs: [constant(2), constant(0.5)] },
      { kind: "deviate", deviate: "lognormal", inputs: [constant(2), constant(3), constant(0.95)] },
      { kind: "deviate", deviate: "gamma", inputs: [constant(0.5), constant(4)] },
      { kind: "deviate", deviate: "beta", inputs: [constant(3), constant(5)] },
      { kind: "histogram", inputs: [0, 1, 1, 3, 2].map(constant) },
    ];
    for (const expression of cases) {
      const mean = new ExpressionContext(1).value(expression);
      const context = new ExpressionContext(1, seededRandom(11));
      let sum = 0;
      for (let i = 0; i < 40_000; i++) sum += context.value(expression);
      expect(Math.abs(sum / 40_000 / mean - 1)).toBeLessThan(0.03);
    }
  });
  it("knows the normal distribution", () => {
    expect(normalQuantile(0.975)).toBeCloseTo(1.959963984540054, 12);
    expect(normalQuantile(1e-9)).toBeCloseTo(-5.997807015007773, 9);
    expect(normalCdf(1)).toBeCloseTo(0.8413447460685429, 12);
  });
});

describe("a tree that cannot be", () => {
  it("is refused with the path of its cycle", () => {
    const tree = new FaultTree();
    const a = tree.declare("a");
    const b = tree.or("b", a);
    tree.define(a, "or", [b]);
    tree.top = a;
    expect(analyse(tree)).toMatchObject({ ok: false, error: { message: "the tree is cyclic: a -> b -> a" } });
  });
});

describe("a deep tree", () => {
  it("of 20,000 gates in a row overflows nothing", () => {
    const tree = new FaultTree();
    let at = tree.event("e0", 1e-9);
    for (let i = 1; i < 20_000; i++) {
      const e = tree.event(`e${i}`, 1e-9);
      at = i % 2 === 0 ? tree.or(`g${i}`, at, e) : tree.and(`g${i}`, at, e);
    }
    tree.top = at;
    const result = analyse(tree);
    expect(result.ok && result.value.exact).toBe(true);
  });
});
