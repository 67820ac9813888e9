/** Checks what the brain sends and what is read back from disk: without a library, since this process is kept small. */
import { type Family, type IpAddress, ipFamily, parseIp } from "../base/addresses.ts";
import { type Result, fail, ok } from "../base/result.ts";
import type { DurationMs } from "../base/time.ts";
import type { FlowsPeer, FlowsReport, FlowsToRedundancy } from "../contracts/flows.ts";
import type {
  BrainToRedundancy,
  InstancePlan,
  RedundancyPlan,
  RouterFlowsPlan,
  RouterPlan,
  TrackPlan,
} from "../contracts/redundancy.ts";

/** What is wrong, and at which path. Thrown inside this file only. */
class Wrong extends Error {}

type Check<T> = (value: unknown, path: string) => T;
type Checks<T> = { readonly [K in keyof T]-?: Check<T[K]> };

const wrong = (path: string, expected: string): never => {
  throw new Wrong(`${path === "" ? "message" : path}: expected ${expected}`);
};
const text: Check<string> = (value, path) =>
  typeof value === "string" && value.length <= 4096 ? value : wrong(path, "a text");
const flag: Check<boolean> = (value, path) => (typeof value === "boolean" ? value : wrong(path, "a boolean"));
const whole =
  (low: number, high: number): Check<number> =>
  (value, path) =>
    typeof value === "number" && Number.isInteger(value) && value >= low && value <= high
      ? value
      : wrong(path, `a whole number from ${low} to ${high}`);
const span: Check<DurationMs> = (value, path) =>
  typeof value === "number" && value >= 0 && value < 1e12
    ? (value as DurationMs)
    : wrong(path, "a duration in ms");
const address: Check<IpAddress> = (value, path) => {
  const parsed = typeof value === "string" ? parseIp(value) : undefined;
  return parsed?.ok ? parsed.value : wrong(path, "an IP address");
};
const oneOf =
  <T extends string | number>(...values: readonly T[]): Check<T> =>
  (value, path) =>
    values.includes(value as T) ? (value as T) : wrong(path, `one of ${values.join(", ")}`);
const optional =
  <T>(check: Check<T>): Check<T | undefined> =>
  (value, path) =>
    value === undefined ? undefined : check(value, path);
const list =
  <T>(check: Check<T>, most = 1024): Check<readonly T[]> =>
  (value, path) =>
    Array.isArray(value) && value.length <= most
      ? value.map((item, i) => check(item, `${path}[${i}]`))
      : wrong(path, `a list of at most ${most}`);
const record = (value: unknown, path: string): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : wrong(path, "an object");
/** Unknown keys are dropped: a newer brain may say more. */
const object =
  <T>(checks: Checks<T>): Check<T> =>
  (value, path) => {
    const from = record(value, path);
    const into: Record<string, unknown> = {};
    for (const [key, check] of Object.entries(checks) as [string, Check<unknown>][]) {
      const checked = check(from[key], path === "" ? key : `${path}.${key}`);
      if (checked !== undefined) into[key] = checked;
    }
    return into as T;
  };

const interfaceName = text;
const instance: Check<InstancePlan> = (value, path) => {
  const plan = object<InstancePlan>({
    interface: interfaceName,
    vrid: whole(1, 255),
    family: oneOf<Family>(4, 6),
    unicast: flag,
    source: optional(address),
    addresses: list(
      object<InstancePlan["addresses"][number]>({ address, interface: interfaceName, advertise: flag }),
    ),
    peers: list(object<InstancePlan["peers"][number]>({ node: text, address })),
  })(value, path);
  const strange = [...plan.addresses, ...plan.peers].find((a) => ipFamily(a.address) !== plan.family);
  return strange ? wrong(path, `addresses of IPv${plan.family} only, found ${strange.address}`) : plan;
};

const trackBase = { name: text, lower: optional(whole(1, 254)), atOnce: optional(flag) };
const track: Check<TrackPlan> = (value, path) => {
  const kind = oneOf(
    "interface",
    "gateway",
    "process",
    "reported",
  )(record(value, path)["kind"], `${path}.kind`);
  const checks = {
    interface: { interface: interfaceName },
    gateway: {
      targets: list(address, 64),
      interval: span,
      timeout: span,
      fall: whole(1, 1e6),
      rise: whole(1, 1e6),
    },
    process: { process: text },
    reported: {},
  }[kind];
  return object<unknown>({ ...trackBase, ...checks, kind: () => kind })(value, path) as TrackPlan;
};

const command = optional(list(text, 256));
const router = object<RouterPlan>({
  router: text,
  version: oneOf<2 | 3>(2, 3),
  priority: whole(1, 255),
  interval: span,
  preempt: flag,
  preemptDelay: span,
  startDelay: span,
  checksum: oneOf<RouterPlan["checksum"]>("auto", "rfc", "pseudo-header"),
  minHopLimit: whole(1, 255),
  password: optional(text),
  virtualMac: flag,
  lease: span,
  fence: flag,
  announce: object<RouterPlan["announce"]>({
    count: whole(1, 100),
    interval: span,
    again: span,
    refresh: span,
  }),
  tracks: list(track),
  hooks: object<RouterPlan["hooks"]>({ active: command, backup: command, fault: command, timeout: span }),
  instances: list(instance),
  flows: optional(
    object<RouterFlowsPlan>({
      handover: span,
      takeover: span,
      otherwise: oneOf("promote", "wait"),
      settle: list(address),
    }),
  ),
  nodes: list(object<RouterPlan["nodes"][number]>({ node: text, address, priority: whole(1, 255) })),
});
const plan = object<RedundancyPlan>({
  site: text,
  node: text,
  digest: text,
  maintenance: optional(text),
  routers: list(router),
});

const message: Check<BrainToRedundancy> = (value, path) => {
  const type = oneOf("plan", "facts", "switchover", "stop")(record(value, path)["type"], "type");
  switch (type) {
    case "plan":
      return { type, plan: plan(record(value, path)["plan"], "plan") };
    case "facts":
      return object<Extract<BrainToRedundancy, { type: "facts" }>>({
        type: () => type,
        facts: list(object({ name: text, good: flag, reason: text }), 10_000),
      })(value, path);
    case "switchover":
      return object<Extract<BrainToRedundancy, { type: "switchover" }>>({
        type: () => type,
        id: whole(0, Number.MAX_SAFE_INTEGER),
        router: text,
        to: optional(text),
      })(value, path);
    case "stop":
      return object<Extract<BrainToRedundancy, { type: "stop" }>>({
        type: () => type,
        keep: optional(flag),
      })(value, path);
  }
};

const amount: Check<number> = (value, path) =>
  typeof value === "number" && value >= 0 ? value : wrong(path, "a number from 0");
const flowsReport = object<FlowsReport>({
  peers: list(
    object<FlowsPeer>({
      node: text,
      connected: flag,
      sentAll: flag,
      receivedAll: flag,
      unacknowledged: amount,
      lag: amount,
      snapshots: amount,
      resumes: amount,
      entriesSent: amount,
      entriesReceived: amount,
      bytesSent: amount,
      bytesReceived: amount,
    }),
  ),
  own: amount,
  others: amount,
  counters: (value, path) => {
    const entries = Object.entries(record(value, path)).slice(0, 100);
    return Object.fromEntries(entries.map(([name, count]) => [name, amount(count, `${path}.${name}`)]));
  },
});
const fromFlows: Check<FlowsToRedundancy> = (value, path) => {
  const type = oneOf("flows", "flushed")(record(value, path)["type"], "type");
  if (type === "flows") return { type, report: flowsReport(record(value, path)["report"], "report") };
  return object<Extract<FlowsToRedundancy, { type: "flushed" }>>({
    type: () => type,
    id: whole(0, Number.MAX_SAFE_INTEGER),
    ok: flag,
    reason: text,
  })(value, path);
};

function checked<T>(check: Check<T>, value: unknown): Result<T> {
  try {
    return ok(check(value, ""));
  } catch (error) {
    if (error instanceof Wrong) return fail(error.message);
    throw error;
  }
}

/** What arrives on the process' socket: from the brain, or from the flows process. */
export const decodeFromNode = (value: unknown): Result<BrainToRedundancy | FlowsToRedundancy> =>
  checked<BrainToRedundancy | FlowsToRedundancy>(
    (from, path) =>
      ["flows", "flushed"].includes(String(record(from, path)["type"]))
        ? fromFlows(from, path)
        : message(from, path),
    value,
  );
export const decodePlan = (value: unknown): Result<RedundancyPlan> => checked(plan, value);
