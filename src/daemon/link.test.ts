import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type Server, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Result, fail, ok } from "../base/result.ts";
import { SystemClock } from "../base/system-clock.ts";
import { type JsonLink, LinkClient, serveLinks } from "./link.ts";

type Message = { n: number; text?: string };
const decode = (value: unknown): Result<Message> =>
  typeof (value as Message | null)?.n === "number" ? ok(value as Message) : fail("n is missing");

let directory: string;
let path: string;
const open: { close(): void }[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nines-link-"));
  path = join(directory, "x.sock");
});
afterEach(() => {
  for (const each of open.splice(0)) each.close();
  rmSync(directory, { recursive: true, force: true });
});

interface Side {
  server: Server;
  received: Message[];
  closed: string[];
  links: JsonLink<Message, Message>[];
}

async function serve(): Promise<Side> {
  const side: Omit<Side, "server"> = { received: [], closed: [], links: [] };
  const server = await serveLinks<Message, Message>(path, (link) => {
    side.links.push(link);
    return {
      decode,
      message: (message) => side.received.push(message),
      closed: (reason) => side.closed.push(reason),
    };
  });
  open.push({
    close: () => {
      for (const link of side.links) link.close("test");
      server.close();
    },
  });
  return { ...side, server };
}

function client(up: (link: JsonLink<Message, Message>) => void, received: Message[] = []) {
  const made = new LinkClient<Message, Message>({
    path,
    clock: new SystemClock(),
    decode,
    message: (message) => received.push(message),
    up,
    down: () => {},
  });
  open.push({ close: () => made.stop() });
  made.start();
  return made;
}

describe("links", () => {
  it("carries messages of any size both ways, in order, over a socket of this user only", async () => {
    const side = await serve();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const received: Message[] = [];
    const text = "é".repeat(300_000);
    client((link) => {
      link.send({ n: 1 });
      link.send({ n: 2, text });
    }, received);
    await vi.waitFor(() => expect(side.received).toEqual([{ n: 1 }, { n: 2, text }]));
    side.links[0]?.send({ n: 3 });
    await vi.waitFor(() => expect(received).toEqual([{ n: 3 }]));
  });

  it("connects again when the other side comes, goes and comes again", async () => {
    let ups = 0;
    client(() => ups++);
    const side = await serve();
    await vi.waitFor(() => expect(ups).toBe(1));
    side.links[0]?.close("restart");
    await vi.waitFor(() => expect(ups).toBe(2), 2000);
  });

  it("ends the link with a reason for what is not a message", async () => {
    const side = await serve();
    for (const bytes of ["{\n", '{"m":1}\n', "null\n", "x".repeat(5 * 1024 * 1024)]) {
      const socket = connect(path);
      socket.on("error", () => {});
      socket.write(bytes);
      const before = side.closed.length;
      await vi.waitFor(() => expect(side.closed.length).toBe(before + 1), 5000);
    }
    expect(side.closed[0]).toContain("not JSON");
    expect(side.closed[1]).toContain("n is missing");
    expect(side.closed[3]).toContain("more than");
  });

  it("takes over the socket of a dead process, but not of a living one", async () => {
    const side = await serve();
    await expect(serve()).rejects.toThrow(/already serves/);
    for (const link of side.links) link.close("test");
    // close() removes the file; what a killed process leaves is made by hand.
    writeFileSync(join(directory, "plain"), "");
    const plain = path;
    path = join(directory, "plain");
    await expect(serve()).rejects.toThrow(/not a socket/);
    path = plain;
  });

  it("gives up a peer that does not read, instead of growing", async () => {
    const side = await serve();
    const socket = connect(path);
    open.push({ close: () => socket.destroy() });
    socket.pause();
    await vi.waitFor(() => expect(side.links).toHaveLength(1));
    const text = "x".repeat(1024 * 1024);
    const [link] = side.links;
    let sent = 0;
    for (let taken = true; taken && sent < 100; sent++) taken = link?.send({ n: sent, text }) ?? false;
    expect(sent).toBeLessThan(20);
    expect(side.closed).toEqual(["the other side does not read"]);
  });
});
