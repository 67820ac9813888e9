import { renameSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { NetworkNamespace } from "../linux/namespace.ts";
import { Authority } from "../proxy/testing/authority.ts";
import { cleanUp, openssl } from "../proxy/testing/harness.ts";
import { RealNode, inside } from "./testing/real-node.ts";

const patient = { timeout: 30_000, interval: 250 };
const RESPONDER = 8888;
const VERSIONS = ["-tls1_2", "-tls1_3"] as const;

let namespace: NetworkNamespace;
let node: RealNode;
let other: RealNode;
let authority: Authority;
beforeEach(async () => {
  namespace = NetworkNamespace.create();
  await inside(namespace, "ip", "link", "set", "lo", "up");
  for (const address of ["10.9.0.2/32", "10.9.0.3/32"])
    await inside(namespace, "ip", "address", "add", address, "dev", "lo");
  [node, other] = [new RealNode(namespace), new RealNode(namespace)];
  authority = new Authority(RESPONDER);
});
afterEach(async () => {
  await node.cleanUp();
  await other.cleanUp();
  await cleanUp();
  namespace.close();
});

/** Each of two nodes serves at its own address. */
const siteOf = (tls: object): SiteInput => ({
  site: "shop",
  nodes: { a: { address: "10.9.0.2" }, b: { address: "10.9.0.3" } },
  services: Object.fromEntries(
    ["10.9.0.2", "10.9.0.3"].map((address, i) => [
      `web${i}`,
      { listen: `${address}:443/tcp`, proxy: { routes: [{ respond: { body: "here\n" } }], tls } },
    ]),
  ),
});

/** One connection with a request; the session goes to or comes from a file. Says `New` or `Reused`. */
const connect = async (address: string, version: string, session: string, file: string): Promise<string> => {
  const command = `printf 'GET / HTTP/1.1\\r\\nHost: shop.example\\r\\nConnection: close\\r\\n\\r\\n' |
    timeout 10 openssl s_client -connect ${address}:443 -servername shop.example ${version} ${session} ${file} -ign_eof 2>&1`;
  const text = await inside(namespace, "sh", "-c", command);
  expect(text).toContain("here");
  return /^(New|Reused), TLS/m.exec(text)?.[1] ?? text;
};
/** With many connections none of the workers is left out: the kernel spreads them by port. */
const resume = async (address: string, version: string, file: string): Promise<Set<string>> => {
  const kinds = new Set<string>();
  for (let i = 0; i < 20; i++) kinds.add(await connect(address, version, "-sess_in", file));
  return kinds;
};
const serving = async (which: RealNode): Promise<void> =>
  vi.waitFor(async () => {
    const { proxy } = await which.status();
    const states = proxy?.workers.map(({ state }) => state) ?? [];
    expect(states.filter((state) => state === "serving")).toHaveLength(Math.min(16, availableParallelism()));
    // The spare is there too, for what crashes next.
    expect(states).toContain("spare");
  }, patient);

const usable = process.getuid?.() === 0 && openssl;

describe.skipIf(!usable)("TLS sessions at a node", () => {
  it("resume at all of its workers, and after a crash, a reload and another brain", async () => {
    const certificates = [authority.issue("shop.example")];
    node.write(siteOf({ certificates }));
    node.start("a");
    await serving(node);
    const files = VERSIONS.map((version) => ({ version, file: join(node.directory, `session${version}`) }));
    for (const { version, file } of files) {
      expect(await connect("10.9.0.2", version, "-sess_out", file)).toBe("New");
      expect(await resume("10.9.0.2", version, file)).toEqual(new Set(["Reused"]));
    }
    for (const what of ["proxy", "proxy", "brain"]) {
      process.kill(node.pidOf(what), "SIGKILL");
      await vi.waitFor(
        async () => expect((await node.status()).proxy?.workers.length).toBeGreaterThan(0),
        patient,
      );
      await serving(node);
    }
    node.write(siteOf({ certificates, minVersion: "1.2", tickets: { lifetime: "3h" } }));
    await node.ask("POST", "/v1/reload");
    for (const { version, file } of files)
      expect(await resume("10.9.0.2", version, file)).toEqual(new Set(["Reused"]));
  }, 180_000);

  it("resume at another node with the site's secret, as long as it is the same", async () => {
    const secret = join(node.directory, "tickets.key");
    writeFileSync(secret, "s".repeat(48));
    // Services of one name on two nodes: with `on` it would be one service; here each node has it by its own file.
    const one = (address: string): SiteInput => ({
      site: "shop",
      nodes: { a: { address: "10.9.0.2" }, b: { address: "10.9.0.3" } },
      services: {
        web: {
          listen: `${address}:443/tcp`,
          proxy: {
            routes: [{ respond: { body: "here\n" } }],
            tls: { certificates: [certificate], tickets: { secret: { file: secret } } },
          },
        },
      },
    });
    const certificate = authority.issue("shop.example");
    node.write(one("10.9.0.2"));
    other.write(one("10.9.0.3"));
    node.start("a");
    other.start("b");
    await serving(node);
    await serving(other);
    for (const version of VERSIONS) {
      const file = join(node.directory, `session${version}`);
      expect(await connect("10.9.0.2", version, "-sess_out", file)).toBe("New");
      expect(await resume("10.9.0.3", version, file)).toEqual(new Set(["Reused"]));
    }
    writeFileSync(secret, "t".repeat(48));
    await other.ask("POST", "/v1/reload");
    const file = join(node.directory, "session-tls1_3");
    await vi.waitFor(
      async () => expect(await resume("10.9.0.3", "-tls1_3", file)).toEqual(new Set(["New"])),
      patient,
    );
  }, 180_000);
});

describe.skipIf(!usable || availableParallelism() < 2)("a certificate that cannot be read", () => {
  const alarms = async (): Promise<string[]> => (await node.status()).alarms.map(({ name }) => name);
  /** None hangs in the queue of a worker that is not there: the kernel spreads connections by port. */
  const allAnswered = async (): Promise<void> => {
    const session = join(node.directory, "session");
    for (let i = 0; i < 12; i++)
      expect(await connect("10.9.0.2", "-tls1_3", "-sess_out", session)).toBe("New");
  };

  it("replaces no worker at an upgrade, and one that ends leaves its connections to the others", async () => {
    const certificate = authority.issue("shop.example");
    node.write(siteOf({ certificates: [certificate] }));
    node.start("a");
    await serving(node);
    renameSync(certificate.key, `${certificate.key}.away`);
    const before = node.processes().filter(({ name }) => name === "proxy");
    node.signal("SIGUSR2");
    await vi.waitFor(
      () => expect(node.events("child.replace_failed").length).toBeGreaterThanOrEqual(before.length),
      patient,
    );
    expect(node.processes().filter(({ name }) => name === "proxy")).toEqual(before);
    await allAnswered();

    process.kill(node.pidOf("proxy"), "SIGKILL");
    await vi.waitFor(async () => expect(await alarms()).toContain("proxy_degraded"), patient);
    await allAnswered();

    renameSync(`${certificate.key}.away`, certificate.key);
    await vi.waitFor(async () => expect(await alarms()).not.toContain("proxy_degraded"), patient);
    await serving(node);
    await allAnswered();
  }, 180_000);
});

describe.skipIf(!usable)("a node that fetches OCSP responses", () => {
  it("serves while the responder is away, staples when it answers, and tells both", async () => {
    const certificates = [authority.issue("shop.example")];
    node.write(siteOf({ certificates, fetchOcsp: true }));
    node.start("a");
    await serving(node);
    const status = async (): Promise<string> => {
      const command = `timeout 10 openssl s_client -connect 10.9.0.2:443 -servername shop.example -status </dev/null 2>&1`;
      const text = await inside(namespace, "sh", "-c", command);
      return /Cert Status: (\w+)|OCSP response: (no response sent)/.exec(text)?.slice(1).join("") ?? text;
    };
    await vi.waitFor(() => expect(node.events("ocsp.failed")[0]?.reason).toMatch(/ECONNREFUSED/), patient);
    expect(await status()).toBe("no response sent");
    await namespace.run(() => authority.start());
    // A minute after the first failure it is asked again; half a minute later at most somebody looks.
    await vi.waitFor(() => expect(node.events("ocsp.fetched")).toHaveLength(1), {
      timeout: 120_000,
      interval: 500,
    });
    await vi.waitFor(async () => expect(await status()).toBe("good"), patient);
    const control = ["--unix-socket", join(node.runtime, "control.sock")];
    await vi.waitFor(async () => {
      const metrics = await inside(namespace, "curl", "-s", ...control, "http://node/metrics");
      expect(metrics).toContain('nines_proxy_ocsp_fetches_total{service="web0",result="fetched"} 1');
      expect(metrics).toMatch(/nines_proxy_ocsp_fetches_total\{service="web0",result="failed"\} [1-9]/);
      expect(metrics).toMatch(/nines_proxy_ocsp_expiry_seconds\{service="web0"\} \d{10}/);
      expect(metrics).toMatch(/nines_proxy_events_total\{event="ocsp.stapled"\} [1-9]/);
    }, patient);
  }, 240_000);
});
