import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { cleanUp } from "../proxy/testing/harness.ts";
import { accountName } from "../proxy/acme/store.ts";
import { acmeTools, startAuthority } from "./testing/authority.ts";
import { RealNode, bridgedNamespaces, inside } from "./testing/real-node.ts";
import { PAIR, edgeSite } from "./testing/sites.ts";

const available = process.getuid?.() === 0 && acmeTools;
const patient = { timeout: 90_000, interval: 300 };

let lan: Awaited<ReturnType<typeof bridgedNamespaces>>;
let outside: NetworkNamespace;
let a: RealNode;
let b: RealNode;
let folder: string;
const started: ChildProcess[] = [];

beforeEach(async () => {
  lan = await bridgedNamespaces(["10.9.0.2", "10.9.0.3", "10.9.0.4"]);
  const [one, two, three] = lan.spaces;
  if (one === undefined || two === undefined || three === undefined) throw new Error("three were asked for");
  outside = three;
  a = new RealNode(one);
  b = new RealNode(two);
  folder = mkdtempSync(join(tmpdir(), "nines-acme-pair-"));
});
afterEach(async () => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  await a.cleanUp();
  await b.cleanUp();
  await cleanUp();
  lan.close();
  rmSync(folder, { recursive: true, force: true });
});

const start = (program: string, args: string[], env: Record<string, string> = {}): ChildProcess => {
  const child = outside.run(() =>
    spawn(program, args, { stdio: ["pipe", "pipe", "ignore"], env: { ...process.env, ...env } }),
  );
  started.push(child);
  return child;
};

/** The certificate that a client at the virtual address is shown: its issuer and serial number. */
const shown = async (port: number, name: string): Promise<string> => {
  const at = ["-connect", `10.9.0.1:${port}`, "-servername", name];
  const text = await inside(outside, "openssl", "s_client", ...at).catch(() => "");
  const from = text.indexOf("-----BEGIN CERTIFICATE-----");
  if (from < 0) return "";
  const file = join(folder, "shown.pem");
  writeFileSync(file, text.slice(from));
  return await inside(outside, "openssl", "x509", "-in", file, "-noout", "-issuer", "-serial");
};
const becomes = (node: RealNode, state: string) =>
  vi.waitFor(async () => {
    const now = await node.status().catch(() => undefined);
    expect(now?.routers[0]?.state, node.stderr).toBe(state);
  }, patient);
const file = (node: RealNode, service: string): string =>
  join(node.directory, `state/acme/certificates/${service}.pem`);
const metrics = (node: RealNode, space: NetworkNamespace | undefined): Promise<string> => {
  if (space === undefined) throw new Error("no such node");
  return inside(
    space,
    "curl",
    "-s",
    "--unix-socket",
    join(node.runtime, "control.sock"),
    "http://node/metrics",
  );
};

function site(authorities: string, keys: string): SiteInput {
  const routes = [{ respond: { body: "backend\n" } }];
  const acme = { acceptTerms: true, directory: "https://10.9.0.4:14000/dir", authorities } as const;
  return edgeSite(PAIR, {
    certificates: { keys },
    services: {
      secure: {
        on: "edge",
        listen: "10.9.0.1:443/tcp",
        proxy: { routes, tls: { acme: { ...acme, names: ["shop.example", "www.shop.example"] } } },
      },
      other: {
        on: "edge",
        listen: "10.9.0.1:8443/tcp",
        proxy: { routes, tls: { acme: { ...acme, names: ["api.example"], challenge: "http-01" } } },
      },
      plain: { on: "edge", listen: "10.9.0.1:80/tcp", proxy: { routes } },
    },
  });
}

describe.skipIf(!available)("a pair that shares its certificates", () => {
  it("has what one node ordered at both within seconds, serves it after a takeover and orders nothing then", async () => {
    const { authorities } = await startAuthority(outside, folder, "10.9.0.4", start);
    const keys = join(folder, "keys");
    await makeKeys(keys, "shop", ["a", "b"]);
    for (const node of [a, b]) node.write(site(authorities, keys));
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    await vi.waitFor(() => {
      for (const service of ["secure", "other"])
        expect(existsSync(file(b, service)), b.stderr + JSON.stringify(a.events("acme.failed"))).toBe(true);
    }, patient);
    for (const service of ["secure", "other"]) {
      expect(readFileSync(file(b, service), "utf8")).toBe(readFileSync(file(a, service), "utf8"));
      expect(statSync(file(b, service)).mode & 0o777).toBe(0o600);
    }
    expect(b.events("acme.received").map((line) => line["from"])).toContain("a");
    const before = [await shown(443, "shop.example"), await shown(8443, "api.example")];
    for (const one of before) expect(one).toContain("Pebble");

    // The node that ordered dies.
    for (const { pid } of a.processes()) if (pid !== undefined) process.kill(pid, "SIGKILL");
    a.signal("SIGKILL");
    await becomes(b, "active");
    await vi.waitFor(async () => {
      expect([await shown(443, "shop.example"), await shown(8443, "api.example")]).toEqual(before);
    }, patient);
    expect(b.events("acme.ordering")).toEqual([]);

    // It renews with the account of the dead one; that one has it when it is back.
    const account = (node: RealNode) =>
      readFileSync(join(node.directory, "state/acme", accountName("https://10.9.0.4:14000/dir")), "utf8");
    expect(JSON.parse(account(b))).toEqual(JSON.parse(account(a)));
    rmSync(file(b, "secure"));
    await vi.waitFor(async () => {
      expect(existsSync(file(b, "secure"))).toBe(true);
      expect(await shown(443, "shop.example")).not.toBe(before[0]);
    }, patient);
    expect(JSON.parse(account(b))).toEqual(JSON.parse(account(a)));
    a.start("a");
    await vi.waitFor(() => {
      expect(readFileSync(file(a, "secure"), "utf8")).toBe(readFileSync(file(b, "secure"), "utf8"));
    }, patient);
    expect(a.events("acme.ordering").filter((line) => line["service"] === "secure")).toHaveLength(1);
    expect(await metrics(b, lan.spaces[1])).toMatch(
      /nines_proxy_certificates_received_total\{service="secure"\} 1/,
    );
    for (const node of [a, b]) expect(JSON.stringify(node.log)).not.toContain("PRIVATE KEY");
  }, 300_000);

  it("gives nothing to a node with a certificate of another authority, and says so; each goes on alone", async () => {
    const { authorities } = await startAuthority(outside, folder, "10.9.0.4", start);
    for (const [i, node] of [a, b].entries()) {
      const keys = join(folder, `keys${i}`);
      await makeKeys(keys, "shop", ["a", "b"]);
      node.write(site(authorities, keys));
    }
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    await vi.waitFor(() => expect(existsSync(file(a, "secure"))).toBe(true), patient);
    await vi.waitFor(() => expect(a.events("acme.peer_refused").length).toBeGreaterThan(0), patient);
    expect(existsSync(file(b, "secure"))).toBe(false);
    expect(await metrics(a, lan.spaces[0])).toMatch(
      /nines_proxy_certificate_peers_refused_total\{reason="tls"\} [1-9]/,
    );
    await a.ask("POST", "/v1/switchover", { to: "b" });
    await vi.waitFor(async () => {
      expect(existsSync(file(b, "secure"))).toBe(true);
      expect(await shown(443, "shop.example")).toContain("Pebble");
    }, patient);
    expect(b.events("acme.ordering").length).toBeGreaterThan(0);
  }, 300_000);
});
