import { ipBytes } from "../base/addresses.ts";
import { bytesEqual } from "../base/bytes.ts";
import type { Clock } from "../base/time.ts";
import { Conntrack, type FlowName } from "../linux/conntrack.ts";
import { LAST_SERVICE, MARK_SIGNATURE, SIGNATURE_MASK } from "./marks.ts";
import { PROTOCOLS } from "./policy-service.ts";
import type { FlowCount, FlowSelector, FlowTable } from "./ports.ts";

/** The kernel's connection table of this network namespace, opened per use: uses are rare, its buffer large. */
export function kernelFlows(clock: Clock): FlowTable {
  const use = async <T>(body: (table: Conntrack) => Promise<T>): Promise<T> => {
    const table = Conntrack.open(clock);
    try {
      return await body(table);
    } finally {
      table.close();
    }
  };
  return {
    cut: (which) =>
      use(async (table) => {
        let count = 0;
        for (const selector of which) count += await cutOne(table, selector);
        return count;
      }),
    count: () => use((table) => countAll(table)),
  };
}

async function cutOne(table: Conntrack, selector: FlowSelector): Promise<number> {
  const address = ipBytes(selector.backend);
  const protocol = PROTOCOLS[selector.protocol];
  const [first, last] = selector.ports;
  const found: FlowName[] = [];
  const filter = { family: selector.family, mark: { value: selector.mark, mask: selector.mask } };
  await table.each(filter, (flow) => {
    if (flow.protocol !== protocol || !bytesEqual(flow.reply.source, address)) return;
    if (flow.reply.sourcePort < first || flow.reply.sourcePort > last) return;
    const { family, original, id } = flow;
    // What is visited may lie in a buffer that is used again.
    const own = { ...original, source: original.source.slice(), destination: original.destination.slice() };
    found.push({ family, protocol, original: own, id });
  });
  // What ended meanwhile is refused, and gone as asked.
  return found.length - (await table.delete(found)).length;
}

async function countAll(table: Conntrack): Promise<FlowCount[]> {
  const counts = new Map<string, { -readonly [K in keyof FlowCount]: FlowCount[K] }>();
  await table.each({ mark: { value: MARK_SIGNATURE, mask: SIGNATURE_MASK } }, ({ mark, reply }) => {
    const service = mark & LAST_SERVICE;
    const key = `${service} ${reply.source.join(".")} ${reply.sourcePort}`;
    const count = counts.get(key);
    if (count) count.flows++;
    else counts.set(key, { service, backend: reply.source.slice(), port: reply.sourcePort, flows: 1 });
  });
  return [...counts.values()];
}
