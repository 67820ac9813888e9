import { bytesEqual } from "../base/bytes.ts";
import { ipBytes } from "../base/addresses.ts";
import { OperationalError } from "../base/errors.ts";
import type { Clock } from "../base/time.ts";
import type { Site } from "../contracts/site.ts";
import { Forwarder } from "../forwarding/service.ts";
import type { FlowSelector, FlowTable } from "../forwarding/ports.ts";
import { Conntrack, type FlowName } from "../linux/conntrack.ts";
import type { ChildContext } from "./child.ts";
import type { ForwarderPort } from "./ports.ts";

const PROTOCOL = { tcp: 6, udp: 17 } as const;

/** The forwarding room for the brain. */
export async function forwarderPort(
  { clock, log, node }: Pick<ChildContext, "clock" | "log" | "node">,
  site: Site,
): Promise<ForwarderPort> {
  let forwarder: Forwarder;
  try {
    forwarder = await Forwarder.open({ clock, log, node, flows: flowTable(clock) });
  } catch (error) {
    // A site that forwards nothing needs none of this, nor the rights for it.
    const needed = Object.values(site.services).some((service) => service.forward !== undefined);
    if (needed || !(error instanceof OperationalError)) throw error;
    log.warn({ event: "forwarding.unavailable", reason: error.message });
    return without(error.message);
  }
  return {
    apply: (wanted, backends) => forwarder.apply(wanted, backends),
    problem: () => forwarder.problem(),
    explain: () => forwarder.explain(),
    metrics: () => forwarder.metrics(),
    counters: () => forwarder.counters(),
    kill: async (pool, backend) => {
      // Before the tables know of it, a cut connection would only meet the same backend again.
      await forwarder.settled();
      return forwarder.kill(pool, backend);
    },
    stop: (remove) => forwarder.stop(remove),
  };
}

/** Where the kernel cannot be reached: fine until a reload asks for forwarding. */
function without(reason: string): ForwarderPort {
  let problem = "";
  return {
    apply: (site) => {
      problem = Object.values(site.services).some((service) => service.forward !== undefined) ? reason : "";
    },
    problem: () => problem,
    explain: () => [],
    metrics: () => Promise.resolve([]),
    counters: () => ({}),
    kill: () => Promise.reject(new OperationalError("PERMISSION", reason)),
    stop: () => Promise.resolve(),
  };
}

/** The kernel's connection table, opened per cut: they are rare, and its buffer is large. */
function flowTable(clock: Clock): FlowTable {
  return {
    cut: async (which) => {
      if (which.length === 0) return 0;
      const table = Conntrack.open(clock);
      try {
        let count = 0;
        for (const selector of which) count += await cutOne(table, selector);
        return count;
      } finally {
        table.close();
      }
    },
  };
}

async function cutOne(table: Conntrack, selector: FlowSelector): Promise<number> {
  const { family, protocol, backend, port } = selector;
  const source = ipBytes(backend);
  const found: FlowName[] = [];
  await table.each({ family, mark: { value: selector.mark, mask: selector.mask } }, (flow) => {
    if (flow.protocol !== PROTOCOL[protocol] || !bytesEqual(flow.reply.source, source)) return;
    if (port !== undefined && flow.reply.sourcePort !== port) return;
    const { original, id } = flow;
    // What is visited may lie in a buffer that is used again.
    const own = { ...original, source: original.source.slice(), destination: original.destination.slice() };
    found.push({ family, protocol: flow.protocol, original: own, id });
  });
  const refused = await table.delete(found);
  return found.length - refused.length;
}
