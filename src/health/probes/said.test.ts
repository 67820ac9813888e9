import { type Socket as DatagramSocket, createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, type Server, type Socket, createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { checkSchema } from "../../config/schema/pools.ts";
import type { CheckVerdict } from "../machine.ts";
import { ANSWER_LIMIT, Search } from "./answer.ts";
import { runProbe } from "./run.ts";

const clock = new SystemClock();
const open: (Server | DatagramSocket)[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function tcp(serve: (socket: Socket) => void): Promise<number> {
  const server = createServer(serve).listen(0, "127.0.0.1");
  open.push(server);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}
async function udp(answer: (datagram: Buffer) => Buffer | undefined): Promise<number> {
  const socket = createSocket("udp4");
  open.push(socket);
  socket.on("message", (datagram, from) => {
    const said = answer(datagram);
    if (said !== undefined) socket.send(said, from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket.address().port;
}
function check(port: number, settings: object): Promise<CheckVerdict> {
  const target = { pool: "apps", backend: "app1", address: ip("127.0.0.1"), port };
  const parsed = checkSchema.parse({ timeout: "5s", ...settings });
  return runProbe(parsed, target, clock, new AbortController().signal);
}

describe("what is searched for in an answer", () => {
  it("is found over pieces of whatever size, in the first 64 KiB and not behind them", () => {
    for (const size of [1, 2, 3, 7]) {
      const text = Buffer.from("..rea.ready.");
      const search = new Search(Buffer.from("ready"));
      const said: string[] = [];
      for (let at = 0; at < text.length; at += size) said.push(search.add(text.subarray(at, at + size)));
      expect(said.indexOf("found")).toBe(Math.ceil(11 / size) - 1);
    }
    const long = (before: number): string =>
      new Search(Buffer.from("ready")).add(Buffer.from(`${"x".repeat(before)}ready`));
    expect([long(ANSWER_LIMIT - 5), long(ANSWER_LIMIT - 4)]).toEqual(["found", "over"]);
  });
  it("is any byte where nothing is asked for", () => {
    const search = new Search(undefined);
    expect([search.add(Buffer.alloc(0)), search.add(Buffer.from("x"))]).toEqual(["more", "found"]);
  });
});

describe("TCP checks that say or expect something", () => {
  it("are good with the answer, which may come in pieces", async () => {
    const port = await tcp((socket) =>
      socket.once("data", (said) => {
        socket.write(said.toString() === "PING\r\n" ? "+PO" : "-ERR");
        setTimeout(() => socket.write("NG\r\n"), 5);
      }),
    );
    const ping = { tcp: true, send: "PING\r\n", expect: "+PONG" };
    expect((await check(port, ping)).reason).toMatch(/^answered in [\d.]+ ms$/);
    expect(await check(port, { ...ping, send: "QUIT\r\n", timeout: "100ms" })).toEqual({
      outcome: "bad",
      reason: "no expected answer within 100ms",
    });
    expect((await check(port, { tcp: true, send: "x" })).outcome).toBe("good");
  });
  it("are bad where the connection is closed, or too much comes without it", async () => {
    const closing = await tcp((socket) => socket.end("421 busy\r\n"));
    expect(await check(closing, { tcp: true, expect: "220 " })).toEqual({
      outcome: "bad",
      reason: "the connection was closed without the expected answer",
    });
    const talking = await tcp((socket) => {
      socket.on("error", () => undefined);
      socket.write(Buffer.alloc(2 * ANSWER_LIMIT));
    });
    expect((await check(talking, { tcp: true, expect: "220 " })).reason).toBe(
      "not the expected answer in the first 64 KiB",
    );
  });
  it("over TLS say what is wrong with it", async () => {
    const port = await tcp((socket) => socket.end("220 plain\r\n"));
    expect(await check(port, { tcp: true, tls: true, expect: "220 " })).toEqual({
      outcome: "bad",
      reason: "the TLS handshake failed",
    });
  });
});

describe("UDP checks", () => {
  it("are good with an answer, or the expected one among several", async () => {
    const port = await udp((said) => Buffer.from(`you said ${said.toString("hex")}`));
    const hello = { udp: true, send: "hello" };
    expect((await check(port, hello)).reason).toMatch(/^answered in [\d.]+ ms$/);
    expect((await check(port, { ...hello, expect: "68656c6c6f" })).outcome).toBe("good");
    expect(await check(port, { ...hello, expect: "goodbye", timeout: "100ms" })).toEqual({
      outcome: "bad",
      reason: "no expected answer within 100ms",
    });
  });
  it("are bad where nobody answers, and at once where nobody listens", async () => {
    const silent = await udp(() => undefined);
    expect(await check(silent, { udp: true, send: "?", timeout: "100ms" })).toEqual({
      outcome: "bad",
      reason: "no answer within 100ms",
    });
    open.pop()?.close();
    expect(await check(silent, { udp: true, send: "?" })).toEqual({
      outcome: "bad",
      reason: "nobody listens there",
    });
  });
});

describe("DNS checks", () => {
  /** An answer without a record, with this response code. */
  const refusal = (code: number) => (query: Buffer) => {
    const answer = Buffer.from(query);
    answer[2] = 0x84;
    answer[3] = code;
    answer.writeUInt16BE(0, 10);
    return answer.subarray(0, query.indexOf(0, 12) + 5);
  };
  it.each([
    [0, "no such record"],
    [1, "FORMERR"],
    [2, "SERVFAIL"],
    [3, "NXDOMAIN"],
    [4, "NOTIMP"],
    [5, "REFUSED"],
  ])("are bad with response code %i: %s", async (code, words) => {
    const verdict = await check(await udp(refusal(code)), { dns: "shop.example" });
    expect(verdict.outcome).toBe("bad");
    expect(verdict.reason.startsWith(`${words} in `)).toBe(true);
  });
  it("are bad where nobody answers, and at once where nobody listens", async () => {
    const silent = await udp(() => undefined);
    expect(await check(silent, { dns: "shop.example", timeout: "100ms" })).toEqual({
      outcome: "bad",
      reason: "no answer within 100ms",
    });
    open.pop()?.close();
    expect((await check(silent, { dns: "shop.example" })).reason).toMatch(/^nobody listens there/);
  });
});
