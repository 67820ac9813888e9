import { get } from "node:http";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { ask, cleanUp, startAnswering, startHttp, startProxy } from "../testing/harness.ts";

afterEach(cleanUp);
const asked = (encoding: string): string =>
  `GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: ${encoding}\r\n\r\n`;
const body = "compressible ".repeat(300);
const through = async (fields: string, encoding: string): Promise<string> => {
  const backend = await startAnswering(
    `HTTP/1.1 200 OK\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`,
  );
  const { port } = await startProxy(
    { routes: [{ pool: "a", compress: true }] },
    { a: { backends: { a: backend.at } } },
  );
  return ask(port, asked(encoding));
};

describe("compression", () => {
  it("leaves what the backend forbids to change, and streams whose messages may not wait", async () => {
    for (const fields of [
      "Content-Type: text/plain\r\nCache-Control: public, no-transform\r\n",
      "Content-Type: text/event-stream\r\n",
      "Content-Type: application/grpc+json\r\n",
    ])
      expect(await through(fields, "gzip")).not.toMatch(/content-encoding/i);
  });

  it("tells caches that another client gets it compressed", async () => {
    expect(await through("Content-Type: text/plain\r\n", "identity")).toMatch(
      /\r\nVary: Accept-Encoding\r\n/,
    );
    expect(await through("Content-Type: image/png\r\n", "gzip")).not.toMatch(/vary/i);
  });

  it("sends each piece of a response whose length nobody knows as it comes, and the trailers after it", async () => {
    let more = (): void => undefined;
    const at = await startHttp((_, response) => {
      response.writeHead(200, { "Content-Type": "text/html", Trailer: "x-sum" });
      response.write("first");
      more = () => {
        response.addTrailers({ "x-sum": "7" });
        response.end("last");
      };
    });
    const { port } = await startProxy(
      { routes: [{ pool: "a", compress: ["gzip"] }] },
      { a: { backends: { a: at } } },
    );
    const parts: Buffer[] = [];
    const headers = { "Accept-Encoding": "gzip", TE: "trailers" };
    const trailers = await new Promise<Record<string, unknown>>((resolve, reject) => {
      get({ host: "127.0.0.1", port, headers, agent: false }, (response) => {
        response.once("data", () => more());
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => resolve(response.trailers));
      }).on("error", reject);
    });
    expect(gunzipSync(Buffer.concat(parts)).toString()).toBe("firstlast");
    expect(trailers).toEqual({ "x-sum": "7" });
  });
});
