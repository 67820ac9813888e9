import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../testing/http2.ts";
import { RawClient, cleanUp, startProxy, startRaw } from "../testing/harness.ts";

afterEach(cleanUp);

const UPGRADE = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/** Answers an upgrade, then sends back what it gets. */
const echo = (socket: Socket): void => {
  socket.once("data", () => {
    socket.write(SWITCHED);
    socket.pipe(socket);
  });
};

/** Without `http`: bytes from the first on. */
const kinds = [
  ["a WebSocket", { pool: "apps" }, UPGRADE],
  ["a stream", { tcp: { pool: "apps" } }, "hello"],
] as const;

async function tunnelled(port: number, first: string): Promise<RawClient> {
  const client = new RawClient(port).send(first);
  await client.until((text) => text.endsWith("\r\n\r\n"), 20_000);
  client.text = "";
  return client;
}

/** Of a seed, so that a failure can be had again. */
function* randomly(seed: number): Generator<number> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    yield state;
  }
}

describe.each(kinds)("%s", (_, proxy, first) => {
  it("carries pieces of all sizes both ways, in order and unchanged", { timeout: 60_000 }, async () => {
    const at = await startRaw(echo);
    const { port } = await startProxy(proxy, { apps: { backends: { a: at } } });
    const client = await tunnelled(port, first);
    const sent = createHash("sha1");
    const heard = createHash("sha1");
    let [out, back] = [0, 0];
    client.socket.removeAllListeners("data");
    client.socket.on("data", (bytes: Buffer) => {
      heard.update(bytes);
      back += bytes.length;
    });
    // Around the size where text ends and a buffer of its own begins, and far from it; the reader stops now and then.
    const sizes = [1, 100, 8_191, 8_192, 8_193, 65_536, 65_537, 300_000];
    const random = randomly(7);
    for (let i = 0; i < 120; i++) {
      const next = random.next().value as number;
      const piece = Buffer.alloc(sizes[next % sizes.length] ?? 1, next % 251);
      sent.update(piece);
      out += piece.length;
      client.socket.write(piece);
      if (next % 5 === 0) await new Promise((resolve) => setTimeout(resolve, next % 7));
      if (next % 3 === 0) client.socket.pause();
      else client.socket.resume();
    }
    client.socket.resume();
    await eventually(() => back >= out, 30_000);
    expect(back).toBe(out);
    expect(heard.digest("hex")).toBe(sent.digest("hex"));
  });

  it("holds no buffer while messages are small", { timeout: 60_000 }, async () => {
    const at = await startRaw(echo);
    const { port } = await startProxy(proxy, { apps: { backends: { a: at } } });
    const before = process.memoryUsage().arrayBuffers;
    const clients: RawClient[] = [];
    for (let i = 0; i < 200; i++) {
      const client = await tunnelled(port, first);
      clients.push(client);
      client.send("message");
      await client.until((text) => text === "message", 20_000);
    }
    // A buffer for each direction would be up to 29 MB.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4_000_000);
  });
});
