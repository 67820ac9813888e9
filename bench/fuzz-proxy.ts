// `npm run fuzz:proxy -- [--minutes 10] [--seed 1]`: mutated requests and responses, in random pieces, to the parser and to a
// whole proxy in this process. Ends with 1 at the first crash, hang, leak or dependence on splits, and names the seed.
// A run of ten minutes or more writes bench/results/fuzz-proxy.json.
import { mkdirSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { fuzzParser, startEngineFuzz } from "../src/proxy/testing/fuzz.ts";
import { cleanUp } from "../src/proxy/testing/harness.ts";

const option = (flag: string, otherwise: number): number => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};

const minutes = option("--minutes", 1);
const seed = option("--seed", 1);
/** After warming up, this many bytes more are a leak: rests of compiled code and caches are far below. */
const GROWTH = 64 * 1_048_576;
const AT_ONCE = 32;

const heap = (): number => {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
};

async function main(): Promise<void> {
  const fuzz = await startEngineFuzz();
  const until = performance.now() + minutes * 60_000;
  const warm = performance.now() + minutes * 6000;
  let next = seed;
  let streams = 0;
  let connections = 0;
  let before = 0;
  let largest = 0;
  while (performance.now() < until) {
    for (let i = 0; i < 2000; i++) fuzzParser(next++);
    streams += 2000;
    for (let i = 0; i < 8; i++) {
      await Promise.all(Array.from({ length: AT_ONCE }, () => fuzz.connection(next++)));
      connections += AT_ONCE;
    }
    if (performance.now() < warm) continue;
    if (before === 0) before = heap();
    largest = Math.max(largest, heap() - before);
    if (largest > GROWTH) throw new Error(`seed ${next}: the heap grew by ${largest} bytes`);
  }
  const left = await fuzz.settled();
  if (left !== undefined) throw new Error(`left over: ${left}`);
  const result = {
    bench: "fuzz-proxy",
    date: new Date().toISOString(),
    machine: `Linux ${release()}, Node ${process.version}`,
    minutes,
    seeds: [seed, next - 1],
    parserStreams: streams,
    proxyConnections: connections,
    answers: fuzz.statuses(),
    heapGrowthBytes: Math.max(0, largest),
    faults: 0,
  };
  console.log(JSON.stringify(result, undefined, 2));
  if (minutes < 10) return;
  const results = new URL("./results/", import.meta.url).pathname;
  mkdirSync(results, { recursive: true });
  writeFileSync(`${results}fuzz-proxy.json`, `${JSON.stringify(result, undefined, 2)}\n`);
}

try {
  await main();
} finally {
  await cleanUp();
}
