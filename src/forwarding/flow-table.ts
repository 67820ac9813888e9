import { ipBytes } from "../base/addresses.ts";
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
        for (const same of grouped(which, passOf).values()) count += await cutSome(table, same);
        return count;
      }),
    count: () => use((table) => countAll(table)),
  };
}

/** What can be looked for in one pass: a table may hold a million connections. */
const passOf = ({ family, mark, mask }: FlowSelector): string => `${family} ${mark} ${mask}`;
const endOf = (protocol: number, backend: Uint8Array): string => `${protocol} ${backend.join(".")}`;

function grouped<T>(all: readonly T[], by: (one: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const same = groups.get(by(one));
    if (same) same.push(one);
    else groups.set(by(one), [one]);
  }
  return groups;
}

async function cutSome(table: Conntrack, which: readonly FlowSelector[]): Promise<number> {
  const [first] = which;
  if (!first) return 0;
  const ends = grouped(which, (one) => endOf(PROTOCOLS[one.protocol], ipBytes(one.backend)));
  const found: FlowName[] = [];
  const { family } = first;
  const filter = { family, mark: { value: first.mark, mask: first.mask } };
  await table.each(filter, ({ protocol, original, reply, id }) => {
    const { source, sourcePort: port } = reply;
    if (!ends.get(endOf(protocol, source))?.some(({ ports }) => port >= ports[0] && port <= ports[1])) return;
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
