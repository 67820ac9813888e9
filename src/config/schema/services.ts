import { z } from "zod";
import { type IpAddress, ipFamily, parseIp } from "../../base/addresses.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import { ms } from "../../base/time.ts";
import { durationBetween, ipAddress, nameOf } from "./common.ts";
import { proxySchema } from "./proxy.ts";

export interface Listen {
  readonly address: IpAddress;
  /** First and last port, equal for a single one. */
  readonly ports: readonly [number, number];
  readonly protocol: "tcp" | "udp";
}

/** `10.0.0.1:80/tcp`, `[2001:db8::1]:5000-5010/udp`. */
export function parseListen(text: string): Result<Listen> {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})(?:-(\d{1,5}))?\/(tcp|udp)$/.exec(text);
  const address = match ? parseIp(match[1] ?? match[2] ?? "") : undefined;
  if (!match || !address?.ok || (match[1] !== undefined) !== (ipFamily(address.value) === 6)) {
    return fail(
      `"${text}" is not address:port/protocol, such as 10.0.0.1:80/tcp or [2001:db8::1]:5000-5010/udp`,
    );
  }
  const low = Number(match[3]);
  const high = Number(match[4] ?? match[3]);
  if (low < 1 || high > 65535 || low > high)
    return fail(`"${text}": ports are 1..65535, the lower one first`);
  return ok({ address: address.value, ports: [low, high], protocol: match[5] as "tcp" | "udp" });
}

const listen = () =>
  z
    .string()
    .describe("address:port/protocol; a port range as 5000-5010")
    .transform((text, context): Listen => {
      const result = parseListen(text);
      if (result.ok) return result.value;
      context.addIssue({ code: "custom", message: result.error, input: text });
      return z.NEVER;
    });

const WEEK = ms(7 * 24 * 3_600_000);
const affinitySchema = z.strictObject({
  timeout: durationBetween(ms(10_000), WEEK, "10s to 7d").describe(
    "How long after its last new connection a client's next one still goes to the same backend.",
  ),
  ipv4Prefix: z
    .int()
    .min(8)
    .max(32)
    .default(32)
    .describe("Clients whose IPv4 addresses are alike in so many bits count as one."),
  ipv6Prefix: z.int().min(16).max(128).default(128).describe("The same for IPv6."),
  size: z
    .int()
    .min(1)
    .max(1_048_576)
    .default(65_536)
    .describe(
      "Clients remembered at a time, per address family; what is beyond goes where the scheduler sends it. Another size begins with an empty memory.",
    ),
});

export const forwardSchema = z.strictObject({
  pool: nameOf("pools"),
  mode: z
    .enum(["nat", "direct"])
    .default("nat")
    .describe(
      "nat: the destination is replaced by the backend's, and answers pass this node. direct: packets go to the backend's MAC address as they are, on a link that both are on, and the backend answers the client itself (direct server return, direct routing).",
    ),
  scheduler: z
    .enum(["maglev", "source", "smooth", "least-connections"])
    .default("maglev")
    .describe(
      "maglev: by the client's address and port; source: by its address alone, so that a client stays with its backend; smooth: in turn; least-connections: in turn, weighted twice a second by the connections that each has. With maglev and source all nodes choose alike.",
    ),
  affinity: affinitySchema
    .optional()
    .describe(
      "A client stays with the backend that it had last, whatever the scheduler: remembered by the kernel and, where the site has `flows`, on every node. In drain a backend keeps its clients; one that is down or in maintenance loses them at once.",
    ),
  masquerade: z
    .union([z.literal(false), ipAddress()])
    .default(false)
    .describe(
      "Replace the client's address by this virtual address of the same router; needed where backends do not route back through it.",
    ),
  flows: z
    .enum(["replicated", "hashed", "off"])
    .default("replicated")
    .describe(
      "Established connections at a failover, where the site has `flows`. replicated: every node knows them; hashed: nothing is sent, since every node picks the same backend for a client by itself, as long as all have the same healthy backends; off: they are lost.",
    ),
  limits: z
    .strictObject({
      sourceConnections: z
        .int()
        .min(1)
        .max(1_000_000)
        .optional()
        .describe("Connections of one client address at a time; more are rejected."),
      sourceRate: z
        .int()
        .min(1)
        .max(1_000_000)
        .optional()
        .describe("New connections of one client address per second; more are rejected."),
      sourceBurst: z
        .int()
        .min(1)
        .max(1_000_000)
        .default(5)
        .describe("How many above the rate are let through at once."),
      backendConnections: z
        .int()
        .min(1)
        .max(1_000_000)
        .optional()
        .describe("Connections of this service to one backend at a time; more are rejected."),
    })
    .optional()
    .describe("Limits per client address and per backend, kept by the kernel on each node by itself."),
});

type Parsed = z.output<typeof looseSchema>;
/** Layer 4: the kernel forwards packets to the pool. */
export type ForwardService = Omit<Parsed, "on" | "forward" | "proxy"> & {
  on: string;
  forward: NonNullable<Parsed["forward"]>;
  proxy?: undefined;
};
/** Layer 7, or streams in user space: the proxy processes terminate the connections. */
export type ProxyService = Omit<Parsed, "forward" | "proxy"> & {
  proxy: NonNullable<Parsed["proxy"]>;
  forward?: undefined;
};

const looseSchema = z.strictObject({
  on: nameOf("virtualRouters")
    .optional()
    .describe("The virtual router whose address this is; a proxy may also listen on addresses of the node."),
  listen: z.union([listen().transform((one) => [one]), z.array(listen()).min(1)]),
  forward: forwardSchema.optional(),
  proxy: proxySchema.optional(),
});

export const serviceSchema = looseSchema
  .superRefine((service, context) => {
    const issue = (message: string, path: string[] = []): void => {
      context.addIssue({ code: "custom", message, path });
    };
    if (service.forward === undefined && service.proxy === undefined)
      issue("a service needs forward or proxy");
    if (service.forward !== undefined && service.proxy !== undefined)
      issue("a service has forward or proxy, not both");
    if (service.forward !== undefined && service.on === undefined)
      issue("a forwarded service needs the virtual router whose address it is: `on`");
    if (service.proxy !== undefined && service.listen.some((one) => one.protocol !== "tcp"))
      issue("a proxy listens on tcp", ["listen"]);
    if (service.proxy !== undefined && service.listen.some((one) => one.ports[1] - one.ports[0] > 31))
      issue("a proxy listens on 32 ports of a range at most", ["listen"]);
  })
  .transform((service) => {
    const { forward } = service;
    // There is no connection to replicate.
    const settled =
      forward?.mode === "direct" && forward.flows === "replicated"
        ? { ...service, forward: { ...forward, flows: "off" as const } }
        : service;
    return settled as ForwardService | ProxyService;
  });
