/** Draws from the distributions of uncertain parameters, from a seeded source. */
import type { Random } from "../../base/random.ts";

/** Standard normal (Marsaglia's polar method; the second value of a pair is not kept, for a plain seed trail). */
export function drawNormal(random: Random): number {
  for (;;) {
    const u = 2 * random.next() - 1;
    const v = 2 * random.next() - 1;
    const s = u * u + v * v;
    if (s > 0 && s < 1) return u * Math.sqrt((-2 * Math.log(s)) / s);
  }
}

/** Gamma with shape k and scale 1 (Marsaglia and Tsang, 2000). */
export function drawGamma(random: Random, shape: number): number {
  if (shape < 1) {
    const u = Math.max(random.next(), Number.MIN_VALUE);
    return drawGamma(random, shape + 1) * u ** (1 / shape);
  }
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = drawNormal(random);
    const v = (1 + c * x) ** 3;
    if (v <= 0) continue;
    const u = random.next();
    if (u === 0 || Math.log(u) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

export function drawBeta(random: Random, alpha: number, beta: number): number {
  const a = drawGamma(random, alpha);
  const b = drawGamma(random, beta);
  return a / (a + b);
}

/** The standard normal's quantile (Acklam's rational approximation with one Halley step: 1e-15 relative). */
export function normalQuantile(p: number): number {
  if (p <= 0) return Number.NEGATIVE_INFINITY;
  if (p >= 1) return Number.POSITIVE_INFINITY;
  const tail = (q: number): number =>
    (((((-7.784894002430293e-3 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734) *
      q +
      4.374664141464968) *
      q +
      2.938163982698783) /
    ((((7.784695709041462e-3 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416) * q +
      1);
  let x: number;
  if (p < 0.02425) x = tail(Math.sqrt(-2 * Math.log(p)));
  else if (p > 1 - 0.02425) x = -tail(Math.sqrt(-2 * Math.log1p(-p)));
  else {
    const q = p - 0.5;
    const r = q * q;
    x =
      ((((((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.357751867269) * r -
        30.66479806614716) *
        r +
        2.506628277459239) *
        q) /
      (((((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972) * r -
        13.28068155288572) *
        r +
        1);
  }
  const error = normalCdf(x) - p;
  const step = error * Math.sqrt(2 * Math.PI) * Math.exp((x * x) / 2);
  return x - step / (1 + (x * step) / 2);
}

/** The standard normal's distribution function, by the incomplete gamma function's series and fraction. */
export function normalCdf(x: number): number {
  const z = Math.abs(x);
  let upper: number;
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let i = 1; i < 200 && Math.abs(term) > 1e-17 * sum; i++) sum += term *= (z * z) / (2 * i + 1);
    upper = 0.5 - (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
  } else {
    let fraction = z;
    for (let i = 60; i > 0; i--) fraction = z + i / fraction;
    upper = Math.exp((-z * z) / 2) / (fraction * Math.sqrt(2 * Math.PI));
  }
  return x > 0 ? 1 - upper : upper;
}
