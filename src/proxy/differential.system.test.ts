import { afterEach, describe, expect, it } from "vitest";
import { seededRandom } from "../base/random.ts";
import { anyRequest, smuggling, valid } from "./testing/corpus.ts";
import {
  answered,
  disagreement,
  exchange,
  hasNginx,
  startNginxBackend,
  startNodeBackend,
} from "./testing/differential.ts";
import { cleanUp, startProxy } from "./testing/harness.ts";

afterEach(cleanUp);

const SEED = Number(process.env["NINES_SEED"] ?? 11);
const GENERATED = 1500;

/** Hand-made first, then generated; the number names a case in a failure. */
function corpus(): string[] {
  const random = seededRandom(SEED);
  const orders = Object.values(valid);
  return [
    ...orders,
    orders.slice(0, 3).join(""),
    ...smuggling.map(([, stream]) => stream),
    // A good request first: what follows must not ride on its connection.
    ...smuggling.map(([, stream]) => valid.get + stream),
    ...Array.from({ length: GENERATED }, () => anyRequest(random)),
  ];
}

const timeouts = { head: "30s", body: "30s" } as const;

describe("what two different backends see of a large corpus", () => {
  const compare = async (start: typeof startNodeBackend): Promise<void> => {
    const { at, seen } = await start();
    const { port } = await startProxy({ pool: "apps", timeouts }, { apps: { backends: { a: at } } });
    const wrong: string[] = [];
    let passed = 0;
    for (const [n, stream] of corpus().entries()) {
      seen.length = 0;
      const text = await exchange(port, stream);
      const why = disagreement(stream, seen, answered(text));
      if (why !== undefined) wrong.push(`case ${n} of seed ${SEED}: ${why}: ${JSON.stringify(stream)}`);
      passed += seen.length;
    }
    expect(wrong).toEqual([]);
    // The corpus is not all refused.
    expect(passed).toBeGreaterThan(GENERATED / 5);
  };

  it("is what the proxy believes it sent: node:http", { timeout: 300_000 }, () => compare(startNodeBackend));

  it.skipIf(!hasNginx())("is what the proxy believes it sent: nginx", { timeout: 300_000 }, () =>
    compare(startNginxBackend),
  );

  it("is never more than Node itself lets through", { timeout: 300_000 }, async () => {
    const direct = await startNodeBackend();
    const behind = await startNodeBackend();
    const { port } = await startProxy({ pool: "apps", timeouts }, { apps: { backends: { a: behind.at } } });
    const wrong: string[] = [];
    let fewer = 0;
    for (const [n, stream] of corpus().entries()) {
      // Node reads nothing after a request that asks for another protocol; the proxy ignores that it asks.
      if (stream.includes("Upgrade: h2c")) continue;
      direct.seen.length = behind.seen.length = 0;
      await exchange(port, stream);
      await exchange(Number(direct.at.slice(direct.at.indexOf(":") + 1)), stream);
      if (behind.seen.length > direct.seen.length)
        wrong.push(
          `case ${n} of seed ${SEED}: ${behind.seen.length}, Node ${direct.seen.length}: ${JSON.stringify(stream)}`,
        );
      if (behind.seen.length < direct.seen.length) fewer++;
    }
    expect(wrong).toEqual([]);
    // The proxy is the stricter one: it refuses what Node lets through.
    expect(fewer).toBeGreaterThan(0);
  });
});
