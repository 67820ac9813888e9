import { afterEach, describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { forwardedFor } from "../http1/wire-forwarded.ts";
import { ask, cleanUp, startAnswering, startProxy } from "../testing/harness.ts";
import { plainAddress } from "./channel.ts";

afterEach(cleanUp);

/** Which networks the client is taken to be in, as routes answer; the test's own peer is trusted. */
async function clientBehind(fields: string): Promise<string> {
  const networks = ["10.0.0.0/8", "1.2.3.4/32", "2001:db8::/32", "127.0.0.0/8"];
  const { port } = await startProxy(
    {
      trustedProxies: ["127.0.0.0/8", "10.0.0.0/8"],
      routes: [
        ...networks.map((client) => ({ match: { client }, respond: { body: client } })),
        { respond: { body: "none" } },
      ],
    },
    {},
  );
  const text = await ask(port, `GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields}\r\n`);
  return text.slice(text.indexOf("\r\n\r\n") + 4);
}

describe("who the client is, behind trusted proxies", () => {
  it.each([
    ["X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4/32"],
    ["X-Forwarded-For: 1.2.3.4, ::ffff:10.0.0.1\r\n", "1.2.3.4/32"],
    ["X-Forwarded-For: ::ffff:102:304\r\n", "1.2.3.4/32"],
    ["X-Forwarded-For: 1.2.3.4:5678\r\n", "1.2.3.4/32"],
    ["X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::/32"],
    ["X-Forwarded-For: 1.2.3.4, 2001:DB8:0::1\r\n", "2001:db8::/32"],
    ["X-Forwarded-For: 1.2.3.4, unknown\r\n", "127.0.0.0/8"],
    ["Forwarded: for=1.2.3.4;proto=https, for=10.0.0.1\r\n", "1.2.3.4/32"],
    ['Forwarded: proto=https;For="[2001:db8::1]:4711"\r\n', "2001:db8::/32"],
    ['Forwarded: for=9.9.9.9;host="a,for=1.2.3.4"\r\n', "none"],
    ["Forwarded: for=1.2.3.4, nonsense\r\n", "127.0.0.0/8"],
    ["X-Forwarded-For: 9.9.9.9\r\nForwarded: for=1.2.3.4\r\n", "none"],
  ])("%j: %s", async (fields, network) => {
    expect(await clientBehind(fields)).toBe(network);
  });

  it("X-Real-IP is the client's address where the site asks for it, and never what the client says", async () => {
    const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const asking =
      "GET / HTTP/1.1\r\nHost: x\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n";
    for (const [forwarded, line] of [
      [["x-forwarded"], undefined],
      [["x-forwarded", "x-real-ip"], "1.2.3.4"],
    ] as const) {
      const { port } = await startProxy(
        { pool: "a", trustedProxies: ["127.0.0.0/8"], forwarded: [...forwarded] },
        { a: { backends: { a: backend.at } } },
      );
      await ask(port, asking);
      expect(/\r\nX-Real-IP: (.*)\r\n/i.exec(backend.got.at(-1) ?? "")?.[1]).toBe(line);
    }
  });

  it("the scheme is what they say, in redirects as well", async () => {
    const site = (trustedProxies: string[]) =>
      startProxy({ trustedProxies, routes: [{ redirect: { to: "${scheme}://${host}/y" } }] }, {});
    const asking = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    expect(await ask((await site(["127.0.0.0/8"])).port, asking)).toContain("Location: https://x/y\r\n");
    expect(await ask((await site([])).port, asking)).toContain("Location: http://x/y\r\n");
  });
});

describe("addresses as they are written", () => {
  it.each([
    ["::ffff:1.2.3.4", "1.2.3.4"],
    [ip("::ffff:1.2.3.4"), "1.2.3.4"],
    ["::ffff:0:1.2.3.4", "::ffff:0:1.2.3.4"],
    ["2001:db8::1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1%eth0"],
  ])("%s is %s", (address, plain) => expect(plainAddress(address)).toBe(plain));

  it.each([
    ["for=a", ["a"]],
    ["by=b;for=a;proto=http , for=c", ["a", "c"]],
    ['for="a\\"b,for=c"', ['a"b,for=c']],
    ["proto=http", [""]],
    ["for=a,", undefined],
    ["for", undefined],
    ["", undefined],
    ['for="a', undefined],
  ])("Forwarded: %s", (value, hops) => expect(forwardedFor(value)).toEqual(hops));
});
