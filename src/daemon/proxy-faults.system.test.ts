import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NetworkNamespace } from "../linux/namespace.ts";
import { killBackends, slowLoris } from "./testing/fault-drill.ts";
import { RealNode } from "./testing/real-node.ts";

let namespace: NetworkNamespace;
let node: RealNode;
beforeEach(() => {
  namespace = NetworkNamespace.create();
  node = new RealNode(namespace);
});
afterEach(async () => {
  await node.cleanUp();
  namespace.close();
});

// `npm run bench:proxy-faults` is the long form.
describe.skipIf(process.getuid?.() !== 0)("a proxy whose surroundings misbehave", () => {
  it("shows no error of a request that may be sent twice when a backend is killed", async () => {
    const { load, retriable } = await killBackends(namespace, node, 100, 2);
    expect(retriable, JSON.stringify(load.errors)).toBe(0);
    expect(load.requests).toBeGreaterThan(100);
  }, 240_000);

  it("serves others as before while 2,000 clients never finish their heads, in bounded memory", async () => {
    const { load, held, memory } = await slowLoris(namespace, node, 50, 2000, 15);
    expect(load.errors).toEqual({});
    expect(held).toBeGreaterThan(500);
    // A head may be 16 KiB long: 2,000 of them, and the sockets' own.
    expect(memory.most - memory.before).toBeLessThan(128 * 1_048_576);
  }, 240_000);
});
