import { afterEach, describe, expect, it } from "vitest";
import { RawClient, cleanUp, sleep, startHttp, startProxy } from "./testing/harness.ts";

afterEach(cleanUp);

/** A seeded generator: the same cases in every run, named by their number. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

const METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS", "G\0T"];
const TARGETS = ["/", "/a?b", "http://x/", "http://y/", "*", "/a#b", "/%2e%2e/x", "//x", "x"];
const VERSIONS = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1"];
const FIELDS = [
  "Host: x",
  "Host: x",
  "Host: y",
  "Content-Length: 5",
  "Content-Length: 0",
  "Content-Length: +5",
  "Content_Length: 5",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding:\tchunked",
  "X: y\r\n folded",
  "Connection: close",
  "Connection: content-length",
  "Connection: Upgrade\r\nUpgrade: h2c",
  "Expect: 100-continue",
  "A: b\nTransfer-Encoding: chunked",
  "A: b\rC: d",
];
const BODIES = [
  "",
  "",
  "hello\r\n",
  "5\r\nhello\r\n0\r\n\r\n",
  "0\r\n\r\n",
  "5;a=b\r\nhello\r\n0\r\n\r\n",
  "0x5\r\nhello\r\n0\r\n\r\n",
];
const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

describe("what the backend sees", () => {
  it("is what the proxy believes it sent, for hostile requests too", { timeout: 60_000 }, async () => {
    let seen = 0;
    const wrong: string[] = [];
    let host = "";
    const at = await startHttp((request, response) => {
      seen++;
      if (request.headers.host !== host) wrong.push(`host ${request.headers.host}`);
      request.resume().on("end", () => response.end("ok"));
    });
    const { port, proxy } = await startProxy(
      { pool: "apps", timeouts: { head: "10s", body: "10s" } },
      { apps: { backends: { a: at } } },
    );
    const counts = (): { seen: number; sent: number; gone: number; refused: number } => {
      const { backends, events } = proxy.metrics();
      const sent = backends["apps/a"]?.statuses.reduce((sum, one) => sum + one, 0) ?? 0;
      // Refused within the body: the head may not have left by then.
      const refused = Object.entries(events).reduce(
        (sum, [name, n]) => (name.startsWith("refused.") ? sum + n : sum),
        0,
      );
      return { seen, sent, refused, gone: events["client-gone"] ?? 0 };
    };
    const pick = generator(7);
    const from = (all: readonly string[]): string => all[pick(all.length)] ?? "";
    for (let n = 0; n < 800; n++) {
      const fields = ["Host: x", ...Array.from({ length: pick(3) }, () => from(FIELDS))].slice(
        pick(5) === 0 ? 1 : 0,
      );
      if (fields.length === 0) continue;
      const head = `${from(METHODS)} ${from(TARGETS)} ${from(VERSIONS)}\r\n${fields.join("\r\n")}\r\n\r\n`;
      const before = counts();
      host = fields.includes("Host: y") || head.includes("http://y/") ? "y" : "x";
      if (!head.includes("Host:") && !head.includes("http://")) host = at.slice(0, at.indexOf(":"));
      const client = new RawClient(port);
      // Half closed: what is whole is answered, what is not is broken off at once.
      client.socket.end(Buffer.from(head + from(BODIES) + (pick(2) === 0 ? SMUGGLED : ""), "latin1"));
      await client.end();
      const after = counts();
      const handled = after.seen - before.seen;
      const answered = after.sent - after.gone - (before.sent - before.gone);
      // A request that was broken off may or may not have reached the backend's program.
      const lost = after.gone - before.gone;
      const refused = after.refused - before.refused;
      if (handled < answered - refused || handled > answered + lost)
        wrong.push(`case ${n}: ${handled} at the backend, ${answered} sent: ${JSON.stringify(head)}`);
      if (lost > 0) await sleep(5);
    }
    expect(wrong).toEqual([]);
    expect(seen).toBeGreaterThan(20);
  });
});
