import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NetworkNamespace } from "../linux/namespace.ts";
import { cleanUp } from "../proxy/testing/harness.ts";
import { acmeTools, startAuthority } from "./testing/authority.ts";
import { RealNode, inside } from "./testing/real-node.ts";

const available = process.getuid?.() === 0 && acmeTools;
const patient = { timeout: 90_000, interval: 500 };

let namespace: NetworkNamespace;
let node: RealNode;
const started: ChildProcess[] = [];

beforeEach(async () => {
  namespace = NetworkNamespace.create();
  await inside(namespace, "ip", "link", "set", "lo", "up");
  await inside(namespace, "ip", "address", "add", "10.9.0.1/32", "dev", "lo");
  node = new RealNode(namespace);
});
afterEach(async () => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  await node.cleanUp();
  await cleanUp();
  namespace.close();
});

const start = (program: string, args: string[], env: Record<string, string> = {}): ChildProcess => {
  const child = namespace.run(() =>
    spawn(program, args, { stdio: ["pipe", "pipe", "ignore"], env: { ...process.env, ...env } }),
  );
  started.push(child);
  return child;
};

/** What a client is shown: issuer, serial number and names. */
const shown = async (port: number, name: string): Promise<string> => {
  const at = ["-connect", `10.9.0.1:${port}`, "-servername", name];
  const text = await inside(namespace, "openssl", "s_client", ...at).catch(() => "");
  const from = text.indexOf("-----BEGIN CERTIFICATE-----");
  if (from < 0) return "";
  const file = join(node.directory, "shown.pem");
  writeFileSync(file, text.slice(from));
  const wanted = ["-noout", "-issuer", "-serial", "-ext", "subjectAltName"];
  return await inside(namespace, "openssl", "x509", "-in", file, ...wanted);
};

describe.skipIf(!available)("a node that orders its certificates", () => {
  it("proves itself by TLS and by HTTP, serves with what it got, and renews without dropping a connection", async () => {
    const { authorities } = await startAuthority(namespace, node.directory, "localhost", start);
    const routes = [{ respond: { body: "backend\n" } }];
    const acme = { acceptTerms: true, directory: "https://localhost:14000/dir", authorities } as const;
    const names = ["shop.example", "www.shop.example"];
    node.write({
      site: "shop",
      nodes: { a: { address: "10.9.0.1" } },
      services: {
        secure: { listen: "10.9.0.1:443/tcp", proxy: { routes, tls: { acme: { ...acme, names } } } },
        other: {
          listen: "10.9.0.1:8443/tcp",
          proxy: { routes, tls: { acme: { ...acme, names: ["api.example"], challenge: "http-01" } } },
        },
        plain: { listen: "10.9.0.1:80/tcp", proxy: { routes } },
      },
    });
    node.start("a");
    await vi.waitFor(async () => {
      expect(await shown(443, "shop.example"), node.stderr).toContain("Pebble");
      expect(await shown(8443, "api.example")).toContain("DNS:api.example");
    }, patient);
    expect(await shown(443, "www.shop.example")).toContain("DNS:shop.example, DNS:www.shop.example");

    const file = join(node.directory, "state/acme/certificates/secure.pem");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, "utf8")).toMatch(/PRIVATE KEY[\s\S]*BEGIN CERTIFICATE/);
    await vi.waitFor(async () => {
      expect((await node.status()).alarms.filter(({ name }) => name === "certificate_failing")).toEqual([]);
    }, patient);

    // An open connection, across a renewal.
    const before = await shown(443, "shop.example");
    const wanted = ["-connect", "10.9.0.1:443", "-servername", "shop.example"];
    const client = start("openssl", ["s_client", "-quiet", ...wanted]);
    let answers = "";
    client.stdout?.on("data", (part: Buffer) => (answers += part.toString()));
    const asked = (): number => answers.split("backend\n").length - 1;
    const ask = (): boolean | undefined =>
      client.stdin?.write("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    ask();
    await vi.waitFor(() => expect(asked()).toBe(1), patient);
    rmSync(file);
    await vi.waitFor(async () => {
      expect(existsSync(file)).toBe(true);
      const now = await shown(443, "shop.example");
      expect(now).toContain("Pebble");
      expect(now).not.toBe(before);
    }, patient);
    ask();
    await vi.waitFor(() => expect(asked()).toBe(2), patient);

    const control = ["--unix-socket", join(node.runtime, "control.sock")];
    const metrics = await inside(namespace, "curl", "-s", ...control, "http://node/metrics");
    expect(metrics).toMatch(/nines_proxy_certificate_expiry_seconds\{service="secure"\} [1-9]/);
  }, 300_000);
});
