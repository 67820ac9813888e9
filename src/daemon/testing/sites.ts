import type { Server } from "node:net";
import { ip } from "../../base/addresses.ts";
import type { SiteInput } from "../../config/schema/site.ts";
import { openListener } from "../../linux/listen.ts";
import type { NetworkNamespace } from "../../linux/namespace.ts";
import { RealNode, type Wire, wireNamespaces } from "./real-node.ts";

/** A site of these nodes (name to address) on one wire, with the virtual address 10.9.0.1; the first is preferred. */
export const edgeSite = (
  nodes: Readonly<Record<string, string>>,
  more: Partial<SiteInput> = {},
): SiteInput => ({
  site: "shop",
  nodes: Object.fromEntries(Object.entries(nodes).map(([name, address]) => [name, { address }])),
  virtualRouters: {
    edge: {
      priorities: Object.fromEntries(Object.keys(nodes).map((name, i) => [name, 110 - 10 * i])),
      interval: "100ms",
      members: [{ interface: "wire0", vrid: 51, addresses: ["10.9.0.1"] }],
    },
  },
  ...more,
});

const quickCheck = { tcp: true, interval: "200ms", timeout: "150ms", rise: 1, fall: 1 } as const;
/** Two backends at the other end of a single node's wire, checked often. */
export const apps = {
  backends: { one: "10.9.0.3:8001", two: "10.9.0.3:8002" },
  check: quickCheck,
} as const;
/** Clients and backends share the wire with the node, so that replies need a masquerade. */
export const forwardApps = {
  on: "edge",
  listen: "10.9.0.1:80/tcp",
  forward: { pool: "apps", masquerade: "10.9.0.1" },
} as const;

/** Lets a server of this process answer inside a namespace. */
export function serveIn(namespace: NetworkNamespace, address: string, port: number, server: Server): void {
  server.listen({ fd: namespace.run(() => openListener({ address: ip(address), port, protocol: "tcp" })) });
}

/** A single node at one end of a wire; its clients and its backends are at the other end, 10.9.0.3. */
export class SingleNode {
  readonly wire: Wire;
  readonly node: RealNode;
  readonly #servers: Server[] = [];
  private constructor(wire: Wire) {
    this.wire = wire;
    this.node = new RealNode(wire.first);
  }
  static async open(): Promise<SingleNode> {
    return new SingleNode(await wireNamespaces());
  }
  serve(port: number, server: Server): void {
    this.#servers.push(server);
    serveIn(this.wire.second, "10.9.0.3", port, server);
  }
  async close(): Promise<void> {
    for (const server of this.#servers) server.close();
    await this.node.cleanUp();
    this.wire.close();
  }
}

export interface NodePair extends Wire {
  readonly a: RealNode;
  readonly b: RealNode;
  /** Ends both nodes before the namespaces go. */
  end(): Promise<void>;
}

/** Two nodes, one at each end of a wire: a has 10.9.0.2, b has 10.9.0.3. */
export async function openPair(site: SiteInput): Promise<NodePair> {
  const wire = await wireNamespaces();
  const [a, b] = [new RealNode(wire.first), new RealNode(wire.second)];
  for (const node of [a, b]) node.write(site);
  const end = async (): Promise<void> => {
    await a.cleanUp();
    await b.cleanUp();
    wire.close();
  };
  return { ...wire, a, b, end };
}

export const PAIR = { a: "10.9.0.2", b: "10.9.0.3" } as const;
