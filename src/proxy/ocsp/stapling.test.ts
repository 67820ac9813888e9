import { spawn } from "node:child_process";
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { SystemClock } from "../../base/system-clock.ts";
import { Authority, freePort } from "../testing/authority.ts";
import { cleanUp, onCleanUp, openssl, startAnswering, startProxy } from "../testing/harness.ts";
import type { Proxy } from "../proxy.ts";
import { askOverHttp } from "./ask.ts";
import { StapleKeeper } from "./service.ts";

const HOUR = 3_600_000;
const patient = { timeout: 15_000, interval: 50 };

afterEach(cleanUp);

class MovedClock extends SystemClock {
  by = 0;
  override wall(): number {
    return super.wall() + this.by;
  }
}

interface Seen {
  /** What OpenSSL says of the stapled response; "none" where none came, "" where the handshake failed. */
  readonly status: string;
  readonly verified: boolean;
}

/** One handshake of `openssl s_client -status`. */
const look = (
  port: number,
  authority: Authority,
  name = "shop.example",
  version = "-tls1_3",
): Promise<Seen> =>
  new Promise((resolve) => {
    const who = ["-connect", `127.0.0.1:${port}`, "-servername", name, "-CAfile", authority.certificate];
    const client = spawn("openssl", ["s_client", ...who, version, "-status", "-verify_hostname", name]);
    let text = "";
    client.stdout.on("data", (part: Buffer) => (text += part.toString()));
    client.stderr.on("data", () => {});
    client.stdin.end();
    client.on("close", () => {
      const found = /Cert Status: (\w+)/.exec(text)?.[1];
      const none = text.includes("OCSP response: no response sent") ? "none" : "";
      resolve({ status: found ?? none, verified: text.includes("Verify return code: 0 (ok)") });
    });
  });

async function serve(
  tls: Parameters<typeof startProxy>[0]["tls"],
  options: Parameters<typeof startProxy>[2] = {},
): Promise<{ port: number; proxy: Proxy; notices: string[] }> {
  const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  const notices: string[] = [];
  const events = {
    notice: (event: string, fields: object) => void notices.push(`${event} ${JSON.stringify(fields)}`),
  };
  const started = await startProxy(
    { pool: "apps", tls },
    { apps: { backends: { a: backend.at } } },
    { events, ...options },
  );
  return { ...started, notices };
}

describe.skipIf(!openssl)("an OCSP response from a file", () => {
  it("is stapled for the certificate that it is of, in TLS 1.2 and 1.3, and taken again when it changes", async () => {
    const authority = new Authority(9);
    const [shop, other] = [authority.issue("shop.example"), authority.issue("other.example")];
    const file = join(authority.directory, "shop.ocsp");
    const { port, proxy, notices } = await serve({
      certificates: [other, { ...shop, ocsp: file }],
    });
    expect(await look(port, authority)).toEqual({ status: "none", verified: true });
    writeFileSync(file, authority.respond(shop.certificate));
    proxy.refreshCertificates();
    for (const version of ["-tls1_2", "-tls1_3"]) {
      expect(await look(port, authority, "shop.example", version)).toEqual({
        status: "good",
        verified: true,
      });
      expect(await look(port, authority, "other.example", version)).toEqual({
        status: "none",
        verified: true,
      });
    }
    expect(proxy.metrics().events).toMatchObject({ "ocsp.stapled": 2, "ocsp.none": 3 });
    expect(notices).toEqual([]);
    // Broken: the good one of before stays, and it is said once.
    writeFileSync(file, "nonsense");
    proxy.refreshCertificates();
    proxy.refreshCertificates();
    expect((await look(port, authority)).status).toBe("good");
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(/proxy.ocsp_unusable .*shop.ocsp: malformed; the one before is stapled/);
    expect(proxy.metrics().events["ocsp.unusable"]).toBe(1);
    rmSync(file);
    proxy.refreshCertificates();
    expect((await look(port, authority)).verified).toBe(true);
  });

  it("is never stapled once it has ended, nor one for another certificate, nor one that says revoked", async () => {
    const authority = new Authority(9);
    const [shop, other] = [authority.issue("shop.example"), authority.issue("other.example")];
    const file = join(authority.directory, "shop.ocsp");
    writeFileSync(file, authority.respond(shop.certificate));
    const clock = new MovedClock();
    const { port, proxy, notices } = await serve({ certificates: [{ ...shop, ocsp: file }] }, { clock });
    expect((await look(port, authority)).status).toBe("good");
    clock.by = 25 * HOUR;
    // Between two looks at the files as well.
    expect(await look(port, authority)).toEqual({ status: "none", verified: true });
    proxy.refreshCertificates();
    expect(notices.at(-1)).toMatch(/expired; nothing is stapled/);
    clock.by = 0;
    writeFileSync(file, authority.respond(other.certificate));
    proxy.refreshCertificates();
    expect(await look(port, authority)).toEqual({ status: "none", verified: true });
    expect(notices.at(-1)).toMatch(/for-another-certificate/);
    authority.revoke(shop.certificate);
    writeFileSync(file, authority.respond(shop.certificate));
    proxy.refreshCertificates();
    expect(await look(port, authority)).toEqual({ status: "none", verified: true });
    expect(notices.at(-1)).toMatch(/revoked/);
  });
});

describe.skipIf(!openssl)("an OCSP response from the responder", () => {
  const keeperOf = (directory: string, ask = askOverHttp()) => {
    const clock = new MovedClock();
    const notices: string[] = [];
    const keeper = new StapleKeeper({
      clock,
      random: { next: () => 0 },
      directory,
      ask,
      notice: (event, fields) => void notices.push(`${event} ${JSON.stringify(fields)}`),
    });
    onCleanUp(() => keeper.stop());
    const counts = () =>
      Object.fromEntries(
        keeper.samples().map(({ labels, value }) => [labels["result"] ?? "expiry", value]),
      ) as Record<string, number>;
    return { keeper, clock, notices, counts };
  };

  it("is fetched, kept for the workers, and asked for again at half of its life; a restart asks for nothing", async () => {
    const authority = new Authority(await freePort());
    const shop = authority.issue("shop.example");
    const directory = join(authority.directory, "ocsp");
    const {
      port,
      proxy,
      notices: told,
    } = await serve({ certificates: [shop], fetchOcsp: true }, { ocsp: directory });
    const { keeper, clock, notices, counts } = keeperOf(directory);
    const wishes = [{ service: "web", files: [shop.certificate] }];
    keeper.update(wishes);
    await keeper.look();
    // The responder is not there: nobody notices but the log and the counter.
    expect(counts()).toMatchObject({ failed: 1, fetched: 0, expiry: 0 });
    expect(notices.at(-1)).toMatch(/ocsp.failed .*ECONNREFUSED/);
    proxy.refreshCertificates();
    expect(await look(port, authority)).toEqual({ status: "none", verified: true });

    await authority.start();
    await keeper.look();
    expect(counts()["failed"]).toBe(1);
    clock.by += 61_000;
    await vi.waitFor(async () => {
      await keeper.look();
      clock.by += 61_000;
      expect(counts()["fetched"]).toBe(1);
    }, patient);
    expect((counts()["expiry"] ?? 0) * 1000).toBeGreaterThan(clock.wall());
    proxy.refreshCertificates();
    expect(await look(port, authority)).toEqual({ status: "good", verified: true });
    expect(told).toEqual([]);

    const next = keeperOf(directory);
    next.keeper.update(wishes);
    await next.keeper.look();
    expect(next.counts()).toMatchObject({ failed: 0, fetched: 0 });
    expect(next.counts()["expiry"]).toBeGreaterThan(0);
    next.clock.by += 0.6 * HOUR;
    await next.keeper.look();
    expect(next.counts()).toMatchObject({ failed: 0, fetched: 1 });
    // Certificates that are gone leave nothing behind.
    next.keeper.update([]);
    await next.keeper.look();
    expect(readdirSync(directory)).toEqual([]);
  });

  it("that stays the same past half of its life is not asked for at every look", async () => {
    const authority = new Authority(await freePort());
    const { certificate } = authority.issue("shop.example");
    const answer = authority.respond(certificate, 24);
    let asked = 0;
    const { keeper, clock, counts } = keeperOf(join(authority.directory, "ocsp"), () => {
      asked++;
      return Promise.resolve(answer);
    });
    keeper.update([{ service: "web", files: [certificate] }]);
    await keeper.look();
    clock.by = 13 * HOUR;
    for (const _ of [1, 2, 3]) await keeper.look();
    expect(asked).toBe(2);
    clock.by = 16 * HOUR;
    await keeper.look();
    expect(asked).toBe(3);
    expect(counts()).toMatchObject({ fetched: 3, failed: 0 });
  });

  it("is fetched over TLS where the certificate says so, of a responder that its issuer vouches for", async () => {
    const port = await freePort();
    const authority = new Authority(port, false, `https://localhost:${port}/`);
    const shop = authority.issue("shop.example");
    const worn = ({ certificate, key }: { certificate: string; key: string }) => ({
      cert: readFileSync(certificate),
      key: readFileSync(key),
    });
    const server = createTlsServer(worn(new Authority(port).issue("localhost")), (request, response) => {
      request.resume().on("end", () => response.end(authority.respond(shop.certificate)));
    });
    await new Promise<void>((resolve) => server.listen(port, "localhost", resolve));
    onCleanUp(() => {
      server.closeAllConnections();
      server.close();
    });
    const { keeper, clock, notices, counts } = keeperOf(join(authority.directory, "ocsp"));
    keeper.update([{ service: "web", files: [shop.certificate] }]);
    await keeper.look();
    expect(counts()).toMatchObject({ failed: 1, fetched: 0 });
    expect(notices.at(-1)).toMatch(/ocsp.failed .*certificate/);
    server.setSecureContext(worn(authority.issue("localhost")));
    clock.by += 61_000;
    await keeper.look();
    expect(counts()).toMatchObject({ failed: 1, fetched: 1 });
  });

  it("that is wrong, too large, late or for nobody is not kept, and is asked for later", async () => {
    const replies: ((end: (status: number, body: Buffer | string) => void) => void)[] = [
      (end) => end(200, "nonsense"),
      (end) => end(200, Buffer.alloc(70_000)),
      (end) => end(500, "no"),
      () => {},
    ];
    const server = createServer((request, response) => {
      request.resume();
      replies.shift()?.((status, body) => response.writeHead(status).end(body));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onCleanUp(() => {
      server.closeAllConnections();
      server.close();
    });
    const authority = new Authority((server.address() as AddressInfo).port);
    const { certificate } = authority.issue("shop.example");
    const directory = join(authority.directory, "ocsp");
    const { keeper, clock, notices, counts } = keeperOf(directory, askOverHttp(300));
    keeper.update([{ service: "web", files: [certificate, join(directory, "missing.pem")] }]);
    for (const [i, reason] of [
      /malformed/,
      /larger than 64 KiB/,
      /answered 500/,
      /no answer within 300 ms/,
    ].entries()) {
      await keeper.look();
      expect(counts()).toMatchObject({ failed: i + 1, fetched: 0 });
      expect(notices.at(-1)).toMatch(reason);
      clock.by += HOUR;
    }
    const plain = keeperOf(directory);
    const alone = join(authority.directory, "alone.pem");
    writeFileSync(alone, readFileSync(certificate.replace(/pem$/, "leaf")));
    plain.keeper.update([{ service: "web", files: [alone] }]);
    await plain.keeper.look();
    await plain.keeper.look();
    expect(plain.notices).toHaveLength(1);
    expect(plain.notices[0]).toMatch(/no-issuer/);
  });
});
