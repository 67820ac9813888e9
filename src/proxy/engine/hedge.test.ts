import type { Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RawClient, ask, cleanUp, startAnswering, startProxy, startRaw } from "../testing/harness.ts";
import { HedgeDelay } from "./policy-hedge.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSE = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const POST = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";

afterEach(cleanUp);

/** A backend that takes requests and says nothing. */
async function startSilent(): Promise<{ at: string; got: string[]; ended: () => number; sockets: Socket[] }> {
  const got: string[] = [];
  const sockets: Socket[] = [];
  let ended = 0;
  const at = await startRaw((socket) => {
    sockets.push(socket);
    socket.on("data", (chunk: Buffer) => got.push(chunk.toString("latin1")));
    socket.on("end", () => {
      ended++;
      socket.end();
    });
    socket.on("close", () => ended++);
  });
  return { at, got, ended: () => ended, sockets };
}

describe("a hedged request", () => {
  it("is answered by the second backend where the first is silent, which is told that nobody waits", async () => {
    const silent = await startSilent();
    const good = await startAnswering(OK);
    const { port, proxy } = await startProxy(
      { routes: [{ pool: "apps", hedge: { after: "20ms" }, retries: { attempts: 0 } }] },
      { apps: { backends: { a: silent.at, b: good.at } } },
    );
    for (let i = 0; i < 4; i++) expect(await ask(port, CLOSE)).toContain("200 OK");
    const { events, backends, gauges } = proxy.metrics();
    expect(silent.got.length).toBe(2);
    expect(good.got.length).toBe(4);
    expect([events["hedged"], events["hedge-won"]]).toEqual([2, 2]);
    expect(backends["apps/b"]?.statuses[1]).toBe(4);
    expect(gauges["requests_in_flight"]).toBe(0);
    await vi.waitFor(() => expect(silent.ended()).toBeGreaterThanOrEqual(2), { timeout: 5000 });
  });

  it("is not one where it may not be sent twice, nor where the budget of retries is spent", async () => {
    const silent = await startSilent();
    const { port, proxy } = await startProxy(
      {
        routes: [
          {
            pool: "apps",
            hedge: { after: "5ms" },
            retries: { budget: 0, attempts: 0 },
          },
        ],
      },
      { apps: { backends: { a: silent.at, b: silent.at } } },
    );
    const posted = new RawClient(port).send(POST);
    await vi.waitFor(() => expect(silent.got.length).toBe(1), { timeout: 10_000 });
    // Thirty in ten seconds are always allowed.
    const clients = Array.from({ length: 40 }, () => new RawClient(port).send(CLOSE));
    const events = (): number[] =>
      ["hedged", "retry-budget-empty"].map((event) => proxy.metrics().events[event] ?? 0);
    await vi.waitFor(() => expect(events()).toEqual([30, 10]), { timeout: 10_000 });
    for (const { socket } of [posted, ...clients]) socket.resetAndDestroy();
    await vi.waitFor(() => expect(proxy.metrics().gauges["requests_in_flight"]).toBe(0), { timeout: 10_000 });
  });

  it("goes on at the second where the first breaks, and an error of the second does not reach the client", async () => {
    const breaking = await startSilent();
    const busy = await startAnswering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    const { port, proxy } = await startProxy(
      { routes: [{ pool: "apps", hedge: { after: "10ms" }, retries: { attempts: 0 }, outlier: false }] },
      { apps: { backends: { a: breaking.at, b: busy.at } } },
    );
    const client = new RawClient(port);
    client.send(CLOSE);
    await vi.waitFor(() => expect(busy.got.length).toBe(1), { timeout: 5000 });
    breaking.sockets[0]?.write(OK);
    expect(await client.end()).toContain("200 OK");

    const other = await startSilent();
    const { port: second } = await startProxy(
      { routes: [{ pool: "apps", hedge: { after: "10ms" }, retries: { attempts: 0 } }] },
      { apps: { backends: { a: breaking.at, b: other.at } } },
    );
    const waiting = new RawClient(second);
    waiting.send(CLOSE);
    await vi.waitFor(() => expect(other.got.length).toBe(1), { timeout: 5000 });
    breaking.sockets.at(-1)?.destroy();
    other.sockets[0]?.write(OK);
    expect(await waiting.end()).toContain("200 OK");
    expect(proxy.metrics().gauges["requests_in_flight"]).toBe(0);
  });
});

describe("the delay of a hedge", () => {
  it("is a percentile of what was seen last, once enough was seen, and never below its least", () => {
    const delay = new HedgeDelay({ percentile: 90, atLeast: 5 });
    for (let i = 0; i < 99; i++) delay.observe(i);
    expect(delay.delay).toBeUndefined();
    delay.observe(99);
    expect(delay.delay).toBe(90);
    for (let i = 0; i < 1024; i++) delay.observe(1);
    expect(delay.delay).toBe(5);
    expect(new HedgeDelay({ after: 30 }).delay).toBe(30);
  });
});
