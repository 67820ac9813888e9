/** The services whose connections are replicated, as this node knows them: by name and by mark, and where it is Active. Pure. */
import type { Flow, FlowPlan } from "../../linux/wire-conntrack.ts";
import { LONGEST, SHORTEST } from "./machine-flow.ts";
import type { FlowRecord } from "./wire.ts";

export interface ReplicatedService {
  readonly name: string;
  readonly router: string;
  /** Of its connections, on this node. */
  readonly mark: number;
  /** Where it is masqueraded: the source ports, first and last, of which each node alone gives new connections one. */
  readonly shares?: readonly { readonly node: string; readonly ports: readonly [number, number] }[];
}

export class Services {
  #byMark = new Map<number, ReplicatedService>();
  #byName = new Map<string, ReplicatedService>();
  readonly #mask: number;
  /** The virtual routers that this node is Active for. */
  active: ReadonlySet<string> = new Set();

  /** `mask`: the bits of a connection's mark that are ours. */
  constructor(mask: number) {
    this.#mask = mask;
  }
  configure(services: readonly ReplicatedService[]): void {
    this.#byMark = new Map(services.map((service) => [service.mark, service]));
    this.#byName = new Map(services.map((service) => [service.name, service]));
  }

  /** Of a connection in this node's kernel. */
  of({ mark }: Pick<Flow, "mark">): ReplicatedService | undefined {
    return this.#byMark.get((mark & this.#mask) >>> 0);
  }
  named(name: string): ReplicatedService | undefined {
    return this.#byName.get(name);
  }
  /** "" where this node does not have the service. */
  routerOf(name: string): string {
    return this.#byName.get(name)?.router ?? "";
  }
  isActive(name: string): boolean {
    return this.active.has(this.routerOf(name));
  }
  /** The node that gave this connection its masqueraded port; undefined where it has none. */
  giver(flow: Pick<Flow, "mark" | "reply">): string | undefined {
    const { destinationPort: port } = flow.reply;
    const shares = this.of(flow)?.shares ?? [];
    return shares.find(({ ports: [first, last] }) => port >= first && port <= last)?.node;
  }
  /** As this node's kernel needs it; undefined where it does not have the service (yet). */
  plan(flow: FlowRecord): FlowPlan | undefined {
    const mark = this.#byName.get(flow.service)?.mark;
    if (mark === undefined) return undefined;
    // Written out: of all that is done per flow, spreading was the dearest.
    const { family, protocol, original, reply, tcpState, windowScales } = flow;
    const timeout = Math.max(Math.min(flow.timeout, LONGEST), SHORTEST);
    return { family, protocol, original, reply, mark, timeout, tcpState, windowScales };
  }
}
