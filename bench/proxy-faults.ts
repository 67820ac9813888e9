// `npm run bench:proxy-faults`: backends killed under load, and a slow-loris attack, as clients of the proxy see them.
// Writes bench/results/proxy-faults.json. 10 kills under 500 requests a second (a quarter each of quick, late and long
// answers and of POSTs), then 2,000 sockets that never finish a head beside 500 requests a second for 30 s. Behind --:
// --quick (4 kills, 100 a second, 15 s), --aims. As root: the node runs in a network namespace of its own.
import { killBackends, slowLoris } from "../src/daemon/testing/fault-drill.ts";
import { RealNode } from "../src/daemon/testing/real-node.ts";
import { NetworkNamespace } from "../src/linux/namespace.ts";
import { type Row, has, report, rowOf } from "./support/results.ts";

const [kills, rate, seconds] = has("--quick") ? [4, 100, 15] : [10, 500, 30];
const SOCKETS = 2000;

async function inNode<T>(what: (namespace: NetworkNamespace, node: RealNode) => Promise<T>): Promise<T> {
  const namespace = NetworkNamespace.create();
  const node = new RealNode(namespace);
  try {
    return await what(namespace, node);
  } finally {
    await node.cleanUp();
    namespace.close();
  }
}

const killed = await inNode((namespace, node) => killBackends(namespace, node, rate, kills));
const slow = await inNode((namespace, node) => slowLoris(namespace, node, rate, SOCKETS, seconds));

const failed = Object.values(slow.load.errors).reduce((all, count) => all + count, 0);
const grown = (slow.memory.most - slow.memory.before) / 1_048_576;
const [first, second] = [`${kills} backends killed`, `slow-loris, ${slow.tool}`];
const row = (name: string, metric: string, unit: string, value: number): Row =>
  rowOf(name, "nines", metric, unit, [value]);
const aim = (name: string, metric: string, value: number, most: number) => ({
  case: name,
  metric,
  against: "none",
  value,
  aim: most,
});
report(
  "proxy-faults",
  [
    row(first, "requests", "count", killed.load.requests),
    row(first, "errors-retriable", "count", killed.retriable),
    row(first, "errors-others", "count", killed.others),
    ...Object.entries(killed.load.errors).map(([name, count]) => row(first, `error ${name}`, "count", count)),
    row(first, "slowest-request", "ms", killed.load.slowest),
    row(second, "requests", "count", slow.load.requests),
    row(second, "requests-failed", "count", failed),
    row(second, "slowest-request", "ms", slow.load.slowest),
    row(second, "connections-held", "count", slow.held),
    row(second, "memory-before", "MiB", slow.memory.before / 1_048_576),
    row(second, "memory-grown", "MiB", grown),
  ],
  [
    aim(first, "errors-retriable", killed.retriable, 0),
    aim(second, "requests-failed", failed, 0),
    aim(second, "memory-grown", grown, 128),
  ],
);
