import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

// The HAProxy side of docs/guide/migrating-from-haproxy.md, read by HAProxy itself.
const page = readFileSync(new URL("../../docs/guide/migrating-from-haproxy.md", import.meta.url), "utf8");
const block = (language: string): string =>
  new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "m").exec(page)?.[1] ?? "";
const canRun = spawnSync("haproxy", ["-v"]).status === 0 && spawnSync("openssl", ["version"]).status === 0;
const main = new URL("../../dist/cli/main.js", import.meta.url).pathname;

describe.skipIf(!canRun)("the guide for those who come from HAProxy", () => {
  it("shows a haproxy.cfg and a site file that both programs take", () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-guide-"));
    try {
      const at = (name: string): string => join(directory, name);
      const subject = ["-subj", "/CN=shop.example", "-days", "1"];
      const files = ["-keyout", at("key.pem"), "-out", at("shop.crt")];
      spawnSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...subject, ...files]);
      writeFileSync(
        at("shop.pem"),
        readFileSync(at("shop.crt"), "utf8") + readFileSync(at("key.pem"), "utf8"),
      );
      // A certificate of the test's own.
      writeFileSync(at("haproxy.cfg"), block("haproxy").replace("/etc/haproxy/shop.pem", at("shop.pem")));
      const theirs = spawnSync("haproxy", ["-c", "-f", at("haproxy.cfg")], { encoding: "utf8" });
      expect([theirs.stdout + theirs.stderr, theirs.status]).toEqual([
        expect.not.stringContaining("ALERT"),
        0,
      ]);
      writeFileSync(at("site.yaml"), block("yaml"));
      const ours = spawnSync("node", [main, "check", at("site.yaml"), "--strict"], { encoding: "utf8" });
      expect([ours.stdout + ours.stderr, ours.status]).toEqual([
        expect.stringContaining("good; site shop"),
        0,
      ]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
