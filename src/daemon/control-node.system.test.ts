import { execFile } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { makeKeys } from "../forwarding/flows/keys.ts";
import { NetworkNamespace } from "../linux/namespace.ts";
import { RealNode, inside, main } from "./testing/real-node.ts";

const right = "0123456789abcdef0123456789abcdef";
const site = {
  site: "shop",
  nodes: { a: { address: "10.9.0.1" } },
  control: { keys: "keys", token: { file: "token" } },
} as const;

let namespace: NetworkNamespace;
let node: RealNode;
beforeEach(async () => {
  namespace = NetworkNamespace.create();
  await inside(namespace, "ip", "link", "set", "lo", "up");
  await inside(namespace, "ip", "address", "add", "10.9.0.1/32", "dev", "lo");
  node = new RealNode(namespace);
  node.write({ ...site });
});
afterEach(async () => {
  await node.cleanUp();
  namespace.close();
});

const available = process.getuid?.() === 0 && existsSync("/usr/bin/openssl");
const patient = { timeout: 30_000, interval: 200 };

describe.skipIf(!available)("the control API on TCP", () => {
  const at = (name: string): string => join(node.directory, name);
  /** Status and output of the command, as a user of another host runs it. */
  const nines = async (...args: string[]): Promise<{ code: number; text: string }> => {
    const command = namespace.run(() =>
      promisify(execFile)(process.execPath, [main, "--control", "10.9.0.1", ...args], { timeout: 30_000 }),
    );
    return await command.then(
      ({ stdout }) => ({ code: 0, text: stdout }),
      (error: { code: number; stderr: string }) => ({ code: error.code, text: error.stderr }),
    );
  };

  it("answers who trusts its certificate and shows the token, and nobody else", async () => {
    await makeKeys(at("keys"), "shop", ["a"]);
    await makeKeys(at("others"), "shop", ["a"]);
    writeFileSync(at("token"), `${right}\n`);
    writeFileSync(at("wrong"), "fedcba9876543210fedcba9876543210");
    const good = [
      "--control-name",
      "a",
      "--control-ca",
      at("keys/ca.crt"),
      "--control-token-file",
      at("token"),
    ];
    node.start("a");
    await vi.waitFor(async () => {
      const { code, text } = await nines(...good, "status", "--json");
      expect([code, (JSON.parse(text || "{}") as { node?: string }).node]).toEqual([0, "a"]);
    }, patient);

    const wrongToken = await nines(...good, "--control-token-file", at("wrong"), "status");
    expect([wrongToken.code, wrongToken.text]).toEqual([5, expect.stringContaining("the token is wrong")]);
    const wrongAuthority = await nines(...good, "--control-ca", at("others/ca.crt"), "status");
    expect([wrongAuthority.code, wrongAuthority.text]).toEqual([
      4,
      expect.stringMatching(/certificate|signature/i),
    ]);
    const wrongName = await nines(...good, "--control-name", "b", "status");
    expect([wrongName.code, wrongName.text]).toEqual([4, expect.stringContaining("altnames")]);
    const none = await nines("--control-name", "a", "--control-ca", at("keys/ca.crt"), "status");
    expect([none.code, none.text]).toEqual([2, expect.stringContaining("--control-token-file")]);
    // Without TLS there is nobody.
    const plain = await inside(
      namespace,
      "sh",
      "-c",
      "curl -s -m 5 http://10.9.0.1:7410/v1/status || echo refused",
    );
    expect(plain).toContain("refused");
    const metrics = await inside(
      namespace,
      "curl",
      "-s",
      "--unix-socket",
      join(node.runtime, "control.sock"),
      "http://node/metrics",
    );
    expect(metrics).toContain('nines_api_refused_total{reason="the_token_is_wrong"} 1');

    // What stays the same is not opened again, which would cut what is under way.
    await node.ask("POST", "/v1/reload", {});
    // Another token, with a reload; and nobody reads it in the log.
    writeFileSync(at("token"), `${right}2`);
    expect((await nines("--control-token-file", at("wrong"), "status")).code).not.toBe(0);
    await node.ask("POST", "/v1/reload", {});
    await vi.waitFor(async () => expect((await nines(...good, "status")).code).toBe(0), patient);
    expect(node.events("control.listening")).toHaveLength(2);
    expect(JSON.stringify(node.log)).not.toContain(right);
    // A killed brain is followed by one that listens again.
    process.kill(node.pidOf("brain"), "SIGKILL");
    await vi.waitFor(async () => expect((await nines(...good, "status")).code).toBe(0), patient);
  }, 120_000);

  it("says why it does not listen, and listens when it can", async () => {
    writeFileSync(at("token"), "short");
    node.start("a");
    const problem = async (): Promise<string> =>
      (await node.status()).alarms.find(({ name }) => name === "control_closed")?.message ?? "";
    await vi.waitFor(async () => expect(await problem()).toContain("fewer than 16 characters"), patient);
    writeFileSync(at("token"), right);
    await vi.waitFor(async () => expect(await problem()).toContain("keys/a.crt cannot be read"), patient);
    await makeKeys(at("keys"), "shop", ["a"]);
    await vi.waitFor(async () => expect(await problem()).toBe(""), patient);
    expect(readFileSync(at("keys/a.crt"), "utf8")).toContain("CERTIFICATE");
  }, 120_000);
});
