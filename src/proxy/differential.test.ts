import { afterEach, describe, expect, it } from "vitest";
import { seededRandom } from "../base/random.ts";
import { anyRequest, smuggling, valid } from "./testing/corpus.ts";
import { answered, disagreement, exchange, startNodeBackend } from "./testing/differential.ts";
import { cleanUp, startProxy } from "./testing/harness.ts";

afterEach(cleanUp);

describe("what the backend sees", () => {
  // A short form of differential.system.test.ts.
  it("is what the proxy believes it sent, for hostile requests too", { timeout: 60_000 }, async () => {
    const { at, seen } = await startNodeBackend();
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const random = seededRandom(7);
    const corpus = [
      ...smuggling.map(([, stream]) => valid.get + stream),
      ...Array.from({ length: 400 }, () => anyRequest(random)),
    ];
    const wrong: string[] = [];
    let passed = 0;
    for (const stream of corpus) {
      seen.length = 0;
      const text = await exchange(port, stream);
      const why = disagreement(stream, seen, answered(text));
      if (why !== undefined) wrong.push(`${why}: ${JSON.stringify(stream)}`);
      passed += seen.length;
    }
    expect(wrong).toEqual([]);
    expect(passed).toBeGreaterThan(100);
  });
});
