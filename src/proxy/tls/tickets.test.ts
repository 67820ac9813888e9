import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

import { type SecureVersion, connect, createServer } from "node:tls";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { SystemClock } from "../../base/system-clock.ts";
import type { Clock } from "../../base/time.ts";
import { tlsSchema } from "../../config/schema/tls.ts";
import type { Proxy } from "../proxy.ts";
import { cleanUp, makeCertificate, openssl, siteOf, startAnswering, startProxy } from "../testing/harness.ts";
import { epochAt, readableEpochs } from "./policy-tickets.ts";
import { TicketKeys, sessionContextOf } from "./tickets.ts";

const HOUR = 3_600_000;
const VERSIONS: readonly SecureVersion[] = ["TLSv1.2", "TLSv1.3"];
const GET = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

afterEach(cleanUp);
beforeAll(() => {
  process.env["NINES_TICKETS_A"] = "a".repeat(40);
  process.env["NINES_TICKETS_B"] = "b".repeat(40);
  process.env["NINES_TICKETS_SHORT"] = "short";
});

/** The clock of the host, with another time of the day. */
class MovedClock extends SystemClock {
  by = 0;
  override wall(): number {
    return super.wall() + this.by;
  }
}

interface Visit {
  readonly reused: boolean;
  readonly session: Buffer | undefined;
  readonly answered: boolean;
}

/** One request over TLS; the session is the last one that the server gave. */
const visit = (port: number, version: SecureVersion, session?: Buffer, more: object = {}): Promise<Visit> =>
  new Promise((resolve) => {
    let last: Buffer | undefined;
    let text = "";
    let reused = false;
    const options = { port, host: "127.0.0.1", servername: "shop.example", rejectUnauthorized: false };
    const resume = session === undefined ? {} : { session };
    const socket = connect(
      { ...options, minVersion: version, maxVersion: version, ...resume, ...more },
      () => {
        reused = socket.isSessionReused();
        socket.write(GET);
      },
    );
    socket.on("session", (given: Buffer) => (last = given));
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      // A ticket that replaces another within a handshake of TLS 1.2 is no event.
      if (version === "TLSv1.2") last = socket.getSession();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve({ reused, session: last, answered: text.includes("200 OK") }));
  });

describe("epochs of session tickets", () => {
  it("are counted from 1970, and the one before and the next are read", () => {
    expect(epochAt(5 * HOUR - 1, HOUR)).toBe(4);
    expect(epochAt(5 * HOUR, HOUR)).toBe(5);
    expect(readableEpochs(5)).toEqual([5, 4, 6]);
  });

  it("have different keys, as have services and secrets; the same ones agree", () => {
    const clock = { at: 0, wall: () => clock.at };
    const [one, two] = [randomBytes(32), randomBytes(32)];
    const key = (secret: Uint8Array, scope: string, wall: number): string => {
      clock.at = wall;
      return new TicketKeys(clock, secret, scope, HOUR).current.toString("hex");
    };
    expect(key(one, "web", 10)).toBe(key(one, "web", HOUR - 1));
    expect(key(one, "web", 10)).toHaveLength(96);
    const all = [key(one, "web", 0), key(one, "web", HOUR), key(one, "api", 0), key(two, "web", 0)];
    expect(new Set(all).size).toBe(4);
  });

  it("a session's context tells parts apart that read the same in a row", () => {
    expect(sessionContextOf("ab", "c")).not.toBe(sessionContextOf("a", "bc"));
    expect(sessionContextOf("a")).toHaveLength(32);
  });

  it("live at most as long as their key is read", () => {
    const tls = { certificates: [{ certificate: "a", key: "b" }] };
    expect(tlsSchema.parse(tls).tickets).toMatchObject({ rotate: 12 * HOUR, lifetime: 2 * HOUR });
    const late = tlsSchema.safeParse({ ...tls, tickets: { rotate: "1h", lifetime: "2h" } });
    expect(late.error?.issues[0]).toMatchObject({ path: ["tickets", "lifetime"] });
  });
});

interface Setup {
  readonly ticketSecret?: Uint8Array;
  readonly secret?: string;
  readonly clock?: Clock;
}
interface Worker {
  readonly port: number;
  readonly proxy: Proxy;
}

describe.skipIf(!openssl).each(VERSIONS)("a session of %s", (version) => {
  /** Proxies with the same certificates; each with a secret of its parent's or of the site's, or with neither. */
  async function workers(first: Setup, second?: Setup, third?: Setup): Promise<[Worker, Worker, Worker]> {
    const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const certificates = [makeCertificate("shop.example"), makeCertificate("other.example")];
    const pools = { apps: { backends: { a: backend.at } } };
    const start = ({ secret, ...options }: Setup = {}): Promise<Worker> => {
      const tickets = secret === undefined ? {} : { secret: { env: secret } };
      return startProxy({ pool: "apps", tls: { certificates, tickets } }, pools, options);
    };
    return [await start(first), await start(second), await start(third)];
  }

  it("resumes at another worker of the node, and not at a process with keys of its own", async () => {
    const ticketSecret = randomBytes(32);
    const [one, two, alone] = await workers({ ticketSecret }, { ticketSecret }, {});
    for (const servername of ["shop.example", "other.example", ""]) {
      const first = await visit(one.port, version, undefined, { servername });
      expect(first).toMatchObject({ reused: false, answered: true });
      const again = await visit(two.port, version, first.session, { servername });
      expect(again).toMatchObject({ reused: true, answered: true });
      expect(await visit(alone.port, version, first.session, { servername })).toMatchObject({
        reused: false,
        answered: true,
      });
    }
    expect(two.proxy.metrics().events).toMatchObject({ "tls.resumed": 3 });
    expect(alone.proxy.metrics().events).toMatchObject({ "tls.full": 3 });
  });

  it("resumes at another node with the site's secret, whatever its own; not with another secret", async () => {
    const [one, two, other] = await workers(
      { secret: "NINES_TICKETS_A" },
      { secret: "NINES_TICKETS_A" },
      { secret: "NINES_TICKETS_B" },
    );
    const { session } = await visit(one.port, version);
    expect((await visit(two.port, version, session)).reused).toBe(true);
    expect(await visit(other.port, version, session)).toMatchObject({ reused: false, answered: true });
  });

  it("survives a rotation of keys, gets a ticket of the new one, and ends with the one after", async () => {
    const clock = new MovedClock();
    clock.by = 12 * HOUR * 2000 - clock.wall();
    const ahead = new MovedClock();
    ahead.by = clock.by + 12 * HOUR;
    const [one, two, fast] = await workers(
      { secret: "NINES_TICKETS_A", clock },
      { secret: "NINES_TICKETS_A", clock },
      { secret: "NINES_TICKETS_A", clock: ahead },
    );
    const first = await visit(one.port, version);
    // A node whose clock is in the next epoch already makes tickets that this one reads.
    const early = await visit(fast.port, version);
    expect((await visit(one.port, version, early.session)).reused).toBe(true);
    clock.by += 12 * HOUR;
    const second = await visit(two.port, version, first.session);
    expect(second.reused).toBe(true);
    expect(second.session).toBeDefined();
    clock.by += 12 * HOUR;
    // Two epochs later the first ticket is unknown, and the one given instead is good.
    expect((await visit(one.port, version, second.session)).reused).toBe(true);
    expect(await visit(two.port, version, first.session)).toMatchObject({ reused: false, answered: true });
  });

  it("survives a reload, also one with another certificate", async () => {
    const [worker] = await workers({});
    const { session } = await visit(worker.port, version);
    const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const certificates = [makeCertificate("shop.example")];
    const pools = { apps: { backends: { a: backend.at } } };
    await worker.proxy.apply(siteOf({ pool: "apps", tls: { certificates } }, pools));
    expect((await visit(worker.port, version, session)).reused).toBe(true);
  });

  it("does not resume under other authorities for client certificates: a file that changes ends them", async () => {
    const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const pools = { apps: { backends: { a: backend.at } } };
    const certificates = [makeCertificate("shop.example")];
    const [client, later] = [makeCertificate("client.example"), makeCertificate("later.example")];
    const tls = { certificates, clientAuthorities: client.certificate };
    const { port, proxy } = await startProxy({ pool: "apps", tls }, pools);
    const own = { cert: readText(client.certificate), key: readText(client.key) };
    const first = await visit(port, version, undefined, own);
    expect(first.answered).toBe(true);
    expect(await visit(port, version, first.session, own)).toMatchObject({ reused: true, answered: true });
    expect((await visit(port, version)).answered).toBe(false);
    writeFileSync(client.certificate, readText(later.certificate));
    proxy.refreshCertificates();
    expect(await visit(port, version, first.session, own)).toMatchObject({ reused: false, answered: false });
  });
});

describe.skipIf(!openssl)("without a hook for keys in Node", () => {
  it("one published key is shared, and a rotation costs a full handshake", async () => {
    const files = makeCertificate("shop.example");
    const clock = new MovedClock();
    clock.by = HOUR * 1000 - clock.wall();
    const server = createServer(
      { cert: readText(files.certificate), key: readText(files.key), sessionIdContext: "web" },
      (socket) => {
        socket.on("error", () => {});
        socket.end("HTTP/1.1 200 OK\r\n\r\n");
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    try {
      const keys = new TicketKeys(clock, randomBytes(32), "web", HOUR);
      expect(keys.install(server, false)).toBe(false);
      const first = await visit(port, "TLSv1.3");
      keys.install(server, false);
      expect((await visit(port, "TLSv1.3", first.session)).reused).toBe(true);
      clock.by += HOUR;
      keys.install(server, false);
      expect(await visit(port, "TLSv1.3", first.session)).toMatchObject({ reused: false, answered: true });
    } finally {
      server.close();
    }
  });
});

describe("the secret of a site", () => {
  it("must not be one that could be guessed from a ticket", async () => {
    const files = openssl ? makeCertificate("shop.example") : { certificate: "a", key: "b" };
    const tls = { certificates: [files], tickets: { secret: { env: "NINES_TICKETS_SHORT" } } };
    await expect(
      startProxy({ pool: "apps", tls }, { apps: { backends: { a: "127.0.0.1:1" } } }),
    ).rejects.toThrow(/NINES_TICKETS_SHORT has less than 32 characters/);
  });
});

const readText = (file: string): string => readFileSync(file, "utf8");
