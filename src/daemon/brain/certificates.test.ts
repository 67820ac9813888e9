import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Log } from "../../base/log.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { siteSchema } from "../../config/schema/site.ts";
import { makeKeys } from "../../forwarding/flows/keys.ts";
import { cleanUp, makeCertificate, openssl } from "../../proxy/testing/harness.ts";
import { NodeCertificates } from "./certificates.ts";

let root: string;
beforeEach(() => void (root = mkdtempSync(join(tmpdir(), "nines-sharing-"))));
afterEach(async () => {
  rmSync(root, { recursive: true, force: true });
  await cleanUp();
});

const freePort = async (): Promise<number> => {
  const probe = createServer().listen(0, "127.0.0.2");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
};

describe.skipIf(!openssl)("nodes that share certificates", () => {
  it("go on when a reload has given the site another name", async () => {
    await makeKeys(join(root, "keys"), "shop", ["a", "b"]);
    const port = await freePort();
    const siteOf = (name: string, email = "operator@shop.example") =>
      siteSchema.parse({
        site: name,
        nodes: { a: { address: "127.0.0.2" }, b: { address: "127.0.0.3" } },
        certificates: { keys: "keys", port },
        pools: { apps: { backends: { one: "10.1.0.11:80" } } },
        services: {
          web: {
            listen: "0.0.0.0:443/tcp",
            proxy: { pool: "apps", tls: { acme: { names: ["shop.example"], acceptTerms: true, email } } },
          },
        },
      });
    const nodes = (["a", "b"] as const).map((node) => {
      const log = { info: () => undefined, warn: () => undefined } as unknown as Log;
      const paths = { state: join(root, node), site: join(root, "site.yaml") };
      return new NodeCertificates(
        { clock: new SystemClock(), log, node, ...paths },
        { certificates: () => {} },
      );
    });
    const use = async (name: string): Promise<void> => {
      for (const node of nodes) await node.useSite(siteOf(name));
      for (const node of nodes) node.update(siteOf(name), [], false);
    };
    const file = (node: string): string => join(root, node, "acme/certificates/web.pem");
    await use("shop");
    await use("renamed");
    const made = makeCertificate("shop.example");
    const pem = readFileSync(made.key, "utf8") + readFileSync(made.certificate, "utf8");
    mkdirSync(join(root, "b/acme/certificates"), { recursive: true });
    writeFileSync(file("b"), pem);
    let looks = 0;
    await vi.waitFor(
      () => {
        // Another wish has a node look, and ask whom it could not ask.
        nodes[0]?.update(siteOf("renamed", `operator${looks++}@shop.example`), [], false);
        expect(readFileSync(file("a"), "utf8")).toBe(pem);
      },
      { timeout: 4000, interval: 100 },
    );
    for (const node of nodes) node.stop();
  });
});
