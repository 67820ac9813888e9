/**
 * Probabilities as Open-PSA writes them: constants, parameters, arithmetic, life distributions and random
 * deviates. An expression has a point value (deviates stand for their means) and can be drawn.
 */
import type { Random } from "../../base/random.ts";
import { unreachable } from "../../base/result.ts";
import { drawBeta, drawGamma, drawNormal, normalQuantile } from "./random-variates.ts";

export type Expression =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "missionTime" }
  /** Shared: drawn once per trial, wherever it is used. */
  | { readonly kind: "parameter"; readonly parameter: Parameter }
  | { readonly kind: "operation"; readonly operation: Operation; readonly inputs: readonly Expression[] }
  | { readonly kind: "deviate"; readonly deviate: Deviate; readonly inputs: readonly Expression[] }
  /** `inputs`: the lowest boundary, then upper boundary and weight of each bin. */
  | { readonly kind: "histogram"; readonly inputs: readonly Expression[] };

export interface Parameter {
  readonly name: string;
  expression: Expression;
}

export type Deviate = "uniform" | "normal" | "lognormal" | "gamma" | "beta";

const OPERATIONS = {
  neg: [1, 1],
  add: [1, 99],
  sub: [1, 99],
  mul: [1, 99],
  div: [1, 99],
  pi: [0, 0],
  abs: [1, 1],
  acos: [1, 1],
  asin: [1, 1],
  atan: [1, 1],
  cos: [1, 1],
  cosh: [1, 1],
  sin: [1, 1],
  sinh: [1, 1],
  tan: [1, 1],
  tanh: [1, 1],
  exp: [1, 1],
  log: [1, 1],
  log10: [1, 1],
  sqrt: [1, 1],
  ceil: [1, 1],
  floor: [1, 1],
  mod: [2, 2],
  pow: [2, 2],
  min: [1, 99],
  max: [1, 99],
  mean: [1, 99],
  not: [1, 1],
  and: [1, 99],
  or: [1, 99],
  eq: [2, 2],
  df: [2, 2],
  lt: [2, 2],
  gt: [2, 2],
  leq: [2, 2],
  geq: [2, 2],
  ite: [3, 3],
  exponential: [2, 2],
  GLM: [4, 4],
  Weibull: [4, 4],
  "periodic-test": [4, 5],
} as const satisfies Record<string, readonly [number, number]>;
export type Operation = keyof typeof OPERATIONS;

const DEVIATES: Record<Deviate, readonly [number, number]> = {
  uniform: [2, 2],
  normal: [2, 2],
  lognormal: [2, 3],
  gamma: [2, 2],
  beta: [2, 2],
};

export const isOperation = (name: string): name is Operation => Object.hasOwn(OPERATIONS, name);
export const isDeviate = (name: string): name is Deviate => Object.hasOwn(DEVIATES, name);
/** Least and greatest number of inputs. */
export const inputsOf = (name: Operation | Deviate): readonly [number, number] =>
  isOperation(name) ? OPERATIONS[name] : DEVIATES[name];

/** Evaluates expressions: their point value, or one draw per trial where `random` is given. */
export class ExpressionContext {
  /** Hours. */
  readonly missionTime: number;
  readonly #random: Random | undefined;
  readonly #known = new Map<Parameter, number>();

  constructor(missionTime: number, random?: Random) {
    this.missionTime = missionTime;
    this.#random = random;
  }
  /** Forgets the draws of parameters. */
  nextTrial(): void {
    this.#known.clear();
  }

  value(expression: Expression): number {
    switch (expression.kind) {
      case "constant":
        return expression.value;
      case "missionTime":
        return this.missionTime;
      case "parameter": {
        const known = this.#known.get(expression.parameter);
        if (known !== undefined) return known;
        const value = this.value(expression.parameter.expression);
        this.#known.set(expression.parameter, value);
        return value;
      }
      case "operation":
        return operate(
          expression.operation,
          expression.inputs.map((input) => this.value(input)),
        );
      case "deviate": {
        const inputs = expression.inputs.map((input) => this.value(input));
        return this.#random
          ? draw(this.#random, expression.deviate, inputs)
          : meanOf(expression.deviate, inputs);
      }
      case "histogram":
        return histogram(
          expression.inputs.map((input) => this.value(input)),
          this.#random,
        );
      default:
        return unreachable(expression);
    }
  }
}

/** Whether a draw can differ from the point value. */
export function isUncertain(expression: Expression): boolean {
  if (expression.kind === "deviate" || expression.kind === "histogram") return true;
  if (expression.kind === "parameter") return isUncertain(expression.parameter.expression);
  return expression.kind === "operation" && expression.inputs.some(isUncertain);
}

function operate(operation: Operation, v: readonly number[]): number {
  const a = v[0] ?? 0;
  const b = v[1] ?? 0;
  const c = v[2] ?? 0;
  const bit = (value: boolean): number => (value ? 1 : 0);
  switch (operation) {
    case "neg":
      return -a;
    case "add":
      return v.reduce((x, y) => x + y);
    case "sub":
      return v.reduce((x, y) => x - y);
    case "mul":
      return v.reduce((x, y) => x * y);
    case "div":
      return v.reduce((x, y) => x / y);
    case "pi":
      return Math.PI;
    case "abs":
    case "acos":
    case "asin":
    case "atan":
    case "cos":
    case "cosh":
    case "sin":
    case "sinh":
    case "tan":
    case "tanh":
    case "exp":
    case "log":
    case "log10":
    case "sqrt":
    case "ceil":
    case "floor":
      return Math[operation](a);
    case "mod":
      return a % b;
    case "pow":
      return a ** b;
    case "min":
      return Math.min(...v);
    case "max":
      return Math.max(...v);
    case "mean":
      return v.reduce((x, y) => x + y) / v.length;
    case "not":
      return bit(a === 0);
    case "and":
      return bit(v.every((x) => x !== 0));
    case "or":
      return bit(v.some((x) => x !== 0));
    case "eq":
      return bit(a === b);
    case "df":
      return bit(a !== b);
    case "lt":
      return bit(a < b);
    case "gt":
      return bit(a > b);
    case "leq":
      return bit(a <= b);
    case "geq":
      return bit(a >= b);
    case "ite":
      return a !== 0 ? b : c;
    case "exponential":
      return -Math.expm1(-a * b);
    case "GLM":
      return glm(a, b, c, v[3] ?? 0);
    case "Weibull":
      return v[3]! <= c ? 0 : -Math.expm1(-(((v[3]! - c) / a) ** b));
    case "periodic-test":
      return v.length === 4 ? testedAndRenewed(a, b, c, v[3]!) : testedThenRepaired(a, b, c, v[3]!, v[4]!);
    default:
      return unreachable(operation);
  }
}

/** Fails on demand with `gamma`, then at rate `lambda`, repaired at rate `mu`; unavailability after `time`. */
function glm(gamma: number, lambda: number, mu: number, time: number): number {
  const rate = lambda + mu;
  if (rate === 0) return gamma;
  return (lambda - (lambda - gamma * rate) * Math.exp(-rate * time)) / rate;
}

/** As good as new at each test: only the time since the last one counts. Just before a test is shown, not after. */
function testedAndRenewed(lambda: number, interval: number, first: number, time: number): number {
  const since = time <= first ? time : (time - first) % interval || interval;
  return -Math.expm1(-lambda * since);
}

/** A failure is found by the next test and then repaired at rate `mu`. */
function testedThenRepaired(
  lambda: number,
  mu: number,
  interval: number,
  first: number,
  time: number,
): number {
  /** Down after `t`, given down at the test: not yet repaired, or repaired and failed again. */
  const stays = (t: number): number => {
    const repairedAgainUp =
      lambda === mu
        ? mu * t * Math.exp(-mu * t)
        : (mu * (Math.exp(-lambda * t) - Math.exp(-mu * t))) / (mu - lambda);
    return 1 - repairedAgainUp;
  };
  const after = (p: number, t: number): number => p * stays(t) + (1 - p) * -Math.expm1(-lambda * t);
  if (time <= first) return -Math.expm1(-lambda * time);
  let p = -Math.expm1(-lambda * first);
  const rest = time - first;
  const periods = Math.min(Math.floor(rest / interval), 1_000_000);
  for (let i = 0; i < periods; i++) p = after(p, interval);
  return after(p, rest - periods * interval);
}

/** Mean and error factor at a confidence level (0.95 usually), or location and scale of the logarithm. */
function lognormal(v: readonly number[]): { mu: number; sigma: number } {
  if (v.length === 2) return { mu: v[0]!, sigma: v[1]! };
  const sigma = Math.log(v[1]!) / normalQuantile(v[2]!);
  return { mu: Math.log(v[0]!) - (sigma * sigma) / 2, sigma };
}

function meanOf(deviate: Deviate, v: readonly number[]): number {
  const a = v[0]!;
  const b = v[1]!;
  switch (deviate) {
    case "uniform":
      return (a + b) / 2;
    case "normal":
      return a;
    case "lognormal": {
      const { mu, sigma } = lognormal(v);
      return v.length === 3 ? a : Math.exp(mu + (sigma * sigma) / 2);
    }
    case "gamma":
      return a * b;
    case "beta":
      return a / (a + b);
    default:
      return unreachable(deviate);
  }
}

function draw(random: Random, deviate: Deviate, v: readonly number[]): number {
  const a = v[0]!;
  const b = v[1]!;
  switch (deviate) {
    case "uniform":
      return a + (b - a) * random.next();
    case "normal":
      return a + b * drawNormal(random);
    case "lognormal": {
      const { mu, sigma } = lognormal(v);
      return Math.exp(mu + sigma * drawNormal(random));
    }
    case "gamma":
      return b * drawGamma(random, a);
    case "beta":
      return drawBeta(random, a, b);
    default:
      return unreachable(deviate);
  }
}

/** Weights are densities: a bin counts by weight times width. */
function histogram(v: readonly number[], random: Random | undefined): number {
  const bins: { low: number; high: number; mass: number }[] = [];
  let total = 0;
  let low = v[0]!;
  for (let i = 1; i + 1 < v.length; i += 2) {
    const mass = v[i + 1]! * (v[i]! - low);
    bins.push({ low, high: v[i]!, mass });
    total += mass;
    low = v[i]!;
  }
  if (random === undefined)
    return bins.reduce((sum, bin) => sum + bin.mass * (bin.low + bin.high), 0) / (2 * total);
  let pick = random.next() * total;
  for (const bin of bins) {
    pick -= bin.mass;
    if (pick <= 0) return bin.low + (bin.high - bin.low) * random.next();
  }
  return low;
}
