import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { guarded } from "./guard.ts";

it("lets through who shows the token, and nobody else", async () => {
  const refused: string[] = [];
  const handler = guarded(
    "correct-horse-battery",
    (_, response) => response.end("in"),
    (why) => refused.push(why),
  );
  const server = createServer(handler).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  const ask = (authorization?: string): Promise<[number | undefined, string]> =>
    new Promise((resolve, reject) => {
      const headers = authorization === undefined ? {} : { authorization };
      get({ port, host: "127.0.0.1", headers, agent: false }, (answer) => {
        let text = "";
        answer.on("data", (part: Buffer) => (text += part.toString()));
        answer.on("end", () => resolve([answer.statusCode, text]));
      }).on("error", reject);
    });
  try {
    expect(await ask("bearer correct-horse-battery")).toEqual([200, "in"]);
    expect(await ask()).toEqual([401, expect.stringContaining("shows no token")]);
    expect(await ask("Basic eDp5")).toEqual([401, expect.stringContaining("no bearer token")]);
    expect(await ask("Bearer wrong")).toEqual([401, expect.stringContaining("the token is wrong")]);
    expect(refused).toHaveLength(3);
  } finally {
    server.close();
  }
});
