import { type AddressInfo, createServer } from "node:net";
import { connect } from "node:tls";
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  RawClient,
  cleanUp,
  makeCertificate,
  onCleanUp,
  openssl,
  siteOf,
  startAnswering,
  startProxy,
  startRaw,
} from "./testing/harness.ts";

const GET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const answered = (times: number) => (text: string) => text.split("\r\n\r\nok").length === times + 1;

afterEach(cleanUp);

describe("a reload that names another access log", () => {
  it("lets go of the one before, with every line in it", async () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-log-"));
    onCleanUp(() => rmSync(directory, { recursive: true, force: true }));
    const held = (): string[] =>
      readdirSync("/proc/self/fd").flatMap((fd) => {
        try {
          const to = readlinkSync(`/proc/self/fd/${fd}`);
          return to.startsWith(directory) ? [basename(to)] : [];
        } catch {
          return [];
        }
      });
    const backend = await startAnswering(OK);
    const pools = { apps: { backends: { a: backend.at } } };
    const logging = (name: string) => ({ pool: "apps", accessLog: { file: join(directory, name) } });
    const { proxy, port } = await startProxy(logging("one"), pools);
    await new RawClient(port).send(GET).until(answered(1));
    await proxy.apply(siteOf(logging("two"), pools));
    await vi.waitFor(() => expect(held()).toEqual(["two"]), { timeout: 5000 });
    expect(readFileSync(join(directory, "one"), "utf8").trim().split("\n")).toHaveLength(1);
  });
});

describe("a reload that makes another kind of service of a listener", () => {
  it("serves new connections as streams and old ones as HTTP, and the other way round", async () => {
    const backend = await startAnswering(OK);
    const echo = await startRaw((socket) => socket.on("data", (chunk: Buffer) => socket.write(chunk)));
    const pools = { apps: { backends: { a: backend.at } }, echo: { backends: { a: echo } } };
    const { proxy, port } = await startProxy({ pool: "apps" }, pools);
    const http = new RawClient(port).send(GET);
    await http.until(answered(1));

    await proxy.apply(siteOf({ tcp: { pool: "echo" } }, pools));
    expect(proxy.port("web")).toBe(port);
    const stream = new RawClient(port).send("hello");
    await stream.until((text) => text === "hello");
    await http.end();

    await proxy.apply(siteOf({ pool: "apps" }, pools));
    const again = new RawClient(port).send(GET);
    await again.until(answered(1));
    stream.send(" again");
    await stream.until((text) => text === "hello again");
  });

  it.skipIf(!openssl)(
    "turns TLS on and asks for client certificates, with connections of before living on",
    async () => {
      const backend = await startAnswering(OK);
      const pools = { apps: { backends: { a: backend.at } } };
      const files = makeCertificate("shop.example");
      const client = makeCertificate("client.example");
      const { proxy, port } = await startProxy({ pool: "apps" }, pools);
      const plain = new RawClient(port).send(GET);
      await plain.until(answered(1));

      const secured = async (more: object = {}): Promise<string> =>
        new Promise((resolve) => {
          let text = "";
          const socket = connect(
            { port, host: "127.0.0.1", servername: "shop.example", rejectUnauthorized: false, ...more },
            () => socket.write(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")),
          );
          socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
          socket.on("error", (error) => (text += error.message));
          socket.on("close", () => resolve(text));
        });
      await proxy.apply(siteOf({ pool: "apps", tls: { certificates: [files] } }, pools));
      expect(await secured()).toContain("200 OK");
      plain.send(GET);
      await plain.until(answered(2));

      const tls = { certificates: [files], clientAuthorities: client.certificate };
      await proxy.apply(siteOf({ pool: "apps", tls }, pools));
      expect(await secured()).not.toContain("200 OK");
      const own = { cert: readFileSync(client.certificate), key: readFileSync(client.key) };
      await vi.waitFor(async () => expect(await secured(own)).toContain("200 OK"), { timeout: 5000 });
    },
  );
});

describe("a reload that cannot be had", () => {
  it("changes nothing, whichever service it fails in, and the next one is whole", async () => {
    const [one, two] = [await startAnswering(OK), await startAnswering(OK)];
    const { proxy, port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: one.at } } });
    const kept = new RawClient(port).send(GET);
    await kept.until(answered(1));
    const before = proxy.metrics();

    const wrong = siteOf({ pool: "other" }, { other: { backends: { b: two.at } } });
    const certificates = [{ certificate: "/nowhere.crt", key: "/nowhere.key" }];
    const [broken] = Object.values(siteOf({ pool: "other", tls: { certificates } }, {}).services);
    const next = { ...wrong, services: { ...wrong.services, ...(broken && { broken }) } };
    await expect(proxy.apply(next)).rejects.toThrow("/nowhere.crt");
    expect(proxy.metrics().backends).toEqual(before.backends);
    kept.send(GET);
    await kept.until(answered(2));
    await new RawClient(port).send(GET).until(answered(1));

    await proxy.apply(wrong);
    await new RawClient(port).send(GET).until(answered(1));
    expect(two.got).toHaveLength(1);
  });
});

describe("sockets of the parent", () => {
  const fdOf = async (): Promise<{ handle: object; port: number }> => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { _handle: handle } = server as unknown as { _handle: object };
    return { handle, port: (server.address() as AddressInfo).port };
  };

  it("are forgotten with their listener, and another of the same name takes its place", async () => {
    const backend = await startAnswering(OK);
    const pools = { apps: { backends: { a: backend.at } } };
    const site = siteOf({ pool: "apps" }, pools);
    const [first, second, third] = [await fdOf(), await fdOf(), await fdOf()];
    const descriptors = new Map<string, object>([["127.0.0.1:0", first.handle]]);
    const { proxy } = await startProxy({ pool: "apps" }, pools, { descriptors, ownSockets: false });
    const answers = (port: number) => new RawClient(port).send(GET).until(answered(1));
    await answers(first.port);

    await proxy.apply({ ...site, services: {} });
    expect(descriptors.size).toBe(0);
    await proxy.apply(site);
    expect(proxy.listening).toBe(false);
    descriptors.set("127.0.0.1:0", second.handle);
    await proxy.apply(site);
    await answers(second.port);

    // The parent closed one and opened the next before this proxy heard of a site without it.
    descriptors.set("127.0.0.1:0", third.handle);
    await proxy.apply(site);
    await answers(third.port);
    expect([proxy.listensOn(second.handle), proxy.listensOn(third.handle)]).toEqual([false, true]);
  });
});

describe("ejections of other workers", () => {
  it("count here too, within the share of the pool that may be ejected, and for the time that is left", async () => {
    const backend = await startAnswering(OK);
    const pools = { apps: { backends: { a: "127.0.0.1:1", b: backend.at, c: "127.0.0.1:2" } } };
    const { proxy, port } = await startProxy({ pool: "apps" }, pools);
    const ejection = { forMs: 60_000, atMost: 0.5 };
    proxy.eject({ ...ejection, backend: "apps/a" });
    expect(proxy.ejected()).toEqual(["apps/a"]);
    proxy.eject({ ...ejection, backend: "apps/c" });
    expect(proxy.ejected()).toEqual(["apps/a"]);
    proxy.eject({ ...ejection, backend: "apps/gone" });
    proxy.eject({ backend: "apps/c", forMs: 1, atMost: 1 });
    await vi.waitFor(() => expect(proxy.ejected()).toEqual(["apps/a"]), { timeout: 5000 });
    expect(proxy.metrics().events["ejected-elsewhere"]).toBe(2);
    const client = new RawClient(port).send(GET);
    await client.until(answered(1));
  });

  it("are told with what is left of them by the worker that ejects", async () => {
    const bad = await startAnswering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    const good = await startAnswering(OK);
    const told: unknown[] = [];
    const { port } = await startProxy(
      { routes: [{ pool: "apps", outlier: { failures: 1 } }] },
      { apps: { backends: { bad: bad.at, good: good.at } } },
      { events: { notice: () => undefined, ejected: (ejection) => told.push(ejection) } },
    );
    const client = new RawClient(port).send(GET).send(GET);
    await client.until((text) => text.includes("200 OK"));
    expect(told).toEqual([{ backend: "apps/bad", forMs: expect.closeTo(10_000, 3), atMost: 0.5 }]);
  });
});
