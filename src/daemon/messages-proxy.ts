/** What the brain and the proxy workers say to each other over <runtime>/proxy.sock. The worker connects. */
import { z } from "zod";
import { type Result, fail, ok } from "../base/result.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { Challenge } from "../proxy/acme/messages.ts";
import type { Ejection } from "../proxy/engine/policy-outlier.ts";
import type { ProxyMetrics } from "../proxy/engine/metrics.ts";

export type BrainToProxy =
  /**
   * The site that was accepted. Sent on every connection and after every reload; `reloads` counts those of
   * this brain, since what a site.ts imports may change without its digest.
   */
  | { readonly type: "site"; readonly digest: string; readonly reloads: number }
  /** What the checks and the operator say of every backend: on every connection and every change. */
  | { readonly type: "backends"; readonly backends: readonly ProxyBackend[] }
  /** What authorities must find just now, and how many certificates were replaced in the life of this brain. */
  | { readonly type: "certificates"; readonly challenges: readonly Challenge[]; readonly changes: number }
  /**
   * An operator takes the node out, or brings it back. `failing`: health questions are answered with 503; `retiring`:
   * every answer is the last of its connection. Not sent before anything of it was ever true.
   */
  | { readonly type: "node"; readonly failing: boolean; readonly retiring: boolean }
  /** Ejections by the other workers, with what is left of them: passive health is one for the node. */
  | { readonly type: "ejections"; readonly ejections: readonly Ejection[] };

export type ProxyBackend = Omit<BackendStatus, "since">;

export type ProxyToBrain =
  /** First on every connection. A spare serves nothing until it takes a worker's place; then it says it again. */
  | { readonly type: "hello"; readonly pid: number; readonly index: number; readonly spare: boolean }
  /** Several times a second: the event loop turns, and `serving` says whether connections are accepted. */
  | { readonly type: "alive"; readonly serving: boolean }
  /** On every change, at most once a second; ejections at once. */
  | {
      readonly type: "report";
      readonly digest: string;
      readonly metrics: ProxyMetrics;
      readonly ejected: readonly string[];
    }
  /** The answer to `site`: that it runs, or why it does not and what ran before goes on; empty for the former. */
  | { readonly type: "site"; readonly reloads: number; readonly problem: string }
  /** A backend that this worker has ejected itself; the others are told. */
  | { readonly type: "ejected"; readonly ejection: Ejection }
  /** It ends as planned, and a successor is there already or comes at once. */
  | { readonly type: "leaving" };

const texts = z.array(z.string());
const counters = z.object({
  statuses: z.array(z.number()),
  latency: z.array(z.number()),
  latencySum: z.number(),
  bytesIn: z.number(),
  bytesOut: z.number(),
});
const numbers = z.record(z.string(), z.number());
const ejection = z.object({ backend: z.string(), forMs: z.number().min(0), atMost: z.number() });
const fromWorker = z.discriminatedUnion("type", [
  z.object({ type: z.literal("hello"), pid: z.number(), index: z.number(), spare: z.boolean() }),
  z.object({ type: z.literal("alive"), serving: z.boolean() }),
  z.object({
    type: z.literal("report"),
    digest: z.string(),
    metrics: z.object({
      routes: z.record(z.string(), counters.extend({ service: z.string() })),
      backends: z.record(z.string(), counters),
      events: numbers,
      gauges: numbers,
    }),
    ejected: texts,
  }),
  z.object({ type: z.literal("site"), reloads: z.number(), problem: z.string() }),
  z.object({ type: z.literal("ejected"), ejection }),
  z.object({ type: z.literal("leaving") }),
]);
const fromBrain = z.discriminatedUnion("type", [
  z.object({ type: z.literal("site"), digest: z.string(), reloads: z.number() }),
  z.object({
    type: z.literal("backends"),
    backends: z.array(
      z.object({
        pool: z.string(),
        backend: z.string(),
        health: z.enum(["unknown", "up", "down"]),
        admin: z.enum(["enabled", "drain", "maintenance"]),
        reason: z.string(),
        effectiveWeight: z.number(),
      }),
    ),
  }),
  z.object({
    type: z.literal("certificates"),
    challenges: z.array(
      z.discriminatedUnion("kind", [
        z.object({ kind: z.literal("http-01"), token: z.string(), answer: z.string() }),
        z.object({
          kind: z.literal("tls-alpn-01"),
          name: z.string(),
          certificate: z.string(),
          key: z.string(),
        }),
      ]),
    ),
    changes: z.number(),
  }),
  z.object({ type: z.literal("node"), failing: z.boolean(), retiring: z.boolean() }),
  z.object({ type: z.literal("ejections"), ejections: z.array(ejection) }),
]);

const decode = <T>(schema: z.ZodType<T>, value: unknown): Result<T> => {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const [issue] = parsed.error.issues;
  return fail(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "invalid"}`);
};
export const decodeWorker = (value: unknown): Result<ProxyToBrain> => decode(fromWorker, value);
export const decodeBrain = (value: unknown): Result<BrainToProxy> => decode(fromBrain, value);
