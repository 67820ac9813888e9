import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, makeCertificate, openssl, startAnswering, startProxy } from "../testing/harness.ts";

const GET = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

afterEach(cleanUp);

interface Shaken {
  /** The subject's name of the certificate that was shown; empty where there was none. */
  readonly name: string;
  readonly answered: boolean;
  readonly protocol: string;
  readonly cipher: string;
}
const shake = (port: number, servername: string, more: object = {}): Promise<Shaken> =>
  new Promise((resolve) => {
    let text = "";
    const seen = { name: "", protocol: "", cipher: "" };
    const socket = connect(
      { port, host: "127.0.0.1", servername, rejectUnauthorized: false, ...more },
      () => {
        seen.name = String(socket.getPeerCertificate().subject?.CN ?? "");
        seen.protocol = socket.getProtocol() ?? "";
        seen.cipher = socket.getCipher().name;
        socket.write(GET);
      },
    );
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.on("error", () => {});
    socket.on("close", () => resolve({ ...seen, answered: text.includes("200 OK") }));
  });

async function serve(tls: NonNullable<Parameters<typeof startProxy>[0]["tls"]>) {
  const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  return startProxy({ pool: "apps", tls }, { apps: { backends: { a: backend.at } } });
}

describe.skipIf(!openssl)("certificates by server name", () => {
  it("an exact name before a wildcard, which stands for one label (RFC 6125), and the first for the rest", async () => {
    const [first, exact, wild] = [
      makeCertificate("first.example"),
      makeCertificate("www.shop.example"),
      makeCertificate("*.shop.example"),
    ];
    const { port } = await serve({ certificates: [first, wild, exact] });
    const names = new Map<string, string>();
    for (const asked of [
      "www.shop.example",
      "api.shop.example",
      "API.Shop.Example",
      "a.b.shop.example",
      "shop.example",
      "first.example",
      "other.example",
      "",
    ])
      names.set(asked, (await shake(port, asked)).name);
    expect(Object.fromEntries(names)).toEqual({
      "www.shop.example": "www.shop.example",
      "api.shop.example": "*.shop.example",
      "API.Shop.Example": "*.shop.example",
      "a.b.shop.example": "first.example",
      "shop.example": "first.example",
      "first.example": "first.example",
      "other.example": "first.example",
      "": "first.example",
    });
  });

  it("are read again when their files change; broken ones leave the old in use, and connections stay", async () => {
    const files = makeCertificate("shop.example");
    const { port, proxy } = await serve({ certificates: [files] });
    const open = connect({ port, host: "127.0.0.1", servername: "shop.example", rejectUnauthorized: false });
    await new Promise((resolve) => open.once("secureConnect", resolve));
    writeFileSync(files.certificate, "broken");
    proxy.refreshCertificates();
    expect(await shake(port, "shop.example")).toMatchObject({ name: "shop.example", answered: true });
    const next = makeCertificate("next.example");
    writeFileSync(files.key, readFileSync(next.key));
    writeFileSync(files.certificate, readFileSync(next.certificate));
    proxy.refreshCertificates();
    for (const name of ["shop.example", ""])
      expect(await shake(port, name)).toMatchObject({ name: "next.example", answered: true });
    const answer = new Promise<string>((resolve) =>
      open.once("data", (part: Buffer) => resolve(part.toString())),
    );
    open.write(GET);
    expect(await answer).toContain("200 OK");
  });
});

describe.skipIf(!openssl)("what TLS is accepted", () => {
  it("from the minimum version on", async () => {
    const certificates = [makeCertificate("shop.example")];
    const old = await serve({ certificates });
    expect(await shake(old.port, "shop.example", { maxVersion: "TLSv1.2" })).toMatchObject({
      protocol: "TLSv1.2",
      answered: true,
    });
    const ancient = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" };
    expect((await shake(old.port, "shop.example", ancient)).answered).toBe(false);
    const strict = await serve({ certificates, minVersion: "1.3" });
    for (const servername of ["shop.example", ""]) {
      expect((await shake(strict.port, servername, { maxVersion: "TLSv1.2" })).answered).toBe(false);
      expect(await shake(strict.port, servername)).toMatchObject({ protocol: "TLSv1.3", answered: true });
    }
    expect(strict.proxy.metrics().events["refused.tls-handshake"]).toBe(2);
  });

  it("with the ciphers of the site for TLS 1.2", async () => {
    const certificates = [makeCertificate("shop.example")];
    const { port } = await serve({ certificates, ciphers: "ECDHE-ECDSA-AES256-GCM-SHA384" });
    const seen = await shake(port, "shop.example", { maxVersion: "TLSv1.2" });
    expect(seen).toMatchObject({ cipher: "ECDHE-ECDSA-AES256-GCM-SHA384", answered: true });
    const other = { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" };
    expect((await shake(port, "shop.example", other)).answered).toBe(false);
  });

  it("with certificates of clients, demanded or only looked at", async () => {
    const certificates = [makeCertificate("shop.example")];
    const [known, unknown] = [makeCertificate("client.example"), makeCertificate("stranger.example")];
    const own = (files: { certificate: string; key: string }) => ({
      cert: readFileSync(files.certificate),
      key: readFileSync(files.key),
    });
    for (const servername of ["shop.example", ""]) {
      const strict = await serve({ certificates, clientAuthorities: known.certificate });
      expect((await shake(strict.port, servername, own(known))).answered).toBe(true);
      expect((await shake(strict.port, servername, own(unknown))).answered).toBe(false);
      expect((await shake(strict.port, servername)).answered).toBe(false);
      const loose = await serve({ certificates, clientAuthorities: known.certificate, clientOptional: true });
      for (const more of [own(known), own(unknown), {}])
        expect((await shake(loose.port, servername, more)).answered).toBe(true);
    }
  });
});
