import type { ChildProcess } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { vi } from "vitest";
import type { NetworkNamespace } from "../../linux/namespace.ts";
import { makeCertificate } from "../../proxy/testing/harness.ts";
import { inside } from "./real-node.ts";

/** Whether what these tests need is installed. */
export const acmeTools = ["openssl", "curl", "pebble", "pebble-challtestsrv"].every((program) =>
  existsSync(`/usr/bin/${program}`),
);

/**
 * A real ACME server at port 14000: it asks back at the ports 80 and 443 of 10.9.0.1, whatever name is ordered, and
 * rejects some nonces. `host` is what its own certificate is for: a name or an address.
 */
export async function startAuthority(
  namespace: NetworkNamespace,
  directory: string,
  host: string,
  start: (program: string, args: string[], env?: Record<string, string>) => ChildProcess,
): Promise<{ authorities: string }> {
  const { certificate, key } = makeCertificate(host);
  const config = join(directory, "pebble.json");
  writeFileSync(
    config,
    JSON.stringify({
      pebble: {
        listenAddress: "0.0.0.0:14000",
        managementListenAddress: "127.0.0.1:15000",
        certificate,
        privateKey: key,
        httpPort: 80,
        tlsPort: 443,
        ocspResponderURL: "",
        externalAccountBindingRequired: false,
      },
    }),
  );
  const none = ["-http01", "", "-https01", "", "-tlsalpn01", ""];
  const dns = ["-dns01", "127.0.0.1:8053", "-management", "127.0.0.1:8055"];
  start("pebble-challtestsrv", [...none, ...dns, "-defaultIPv4", "10.9.0.1", "-defaultIPv6", ""]);
  start("pebble", ["-config", config, "-dnsserver", "127.0.0.1:8053"], { PEBBLE_VA_NOSLEEP: "1" });
  await vi.waitFor(
    async () => {
      await inside(namespace, "curl", "-sk", "https://127.0.0.1:14000/dir");
      await inside(namespace, "curl", "-s", "http://127.0.0.1:8055/");
    },
    { timeout: 90_000, interval: 500 },
  );
  return { authorities: certificate };
}
