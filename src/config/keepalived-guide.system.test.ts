import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

// The keepalived side of docs/guide/migrating-from-keepalived.md, read by keepalived itself in a namespace.
const page = readFileSync(new URL("../../docs/guide/migrating-from-keepalived.md", import.meta.url), "utf8");
const blocks = [...page.matchAll(/^```keepalived\n(.*?)^```$/gms)].map((match) => match[1] ?? "");
const canRun = spawnSync("keepalived", ["--version"]).status === 0 && process.getuid?.() === 0;

describe.skipIf(!canRun)("keepalived reads the examples of the guide", () => {
  const directory = mkdtempSync(join(tmpdir(), "nines-guide-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const verdict = (text: string): string => {
    const [file, result] = [join(directory, "keepalived.conf"), join(directory, "result")];
    writeFileSync(file, `global_defs {\n    enable_script_security\n    script_user root\n}\n${text}`);
    const script = `ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip link set eth1 up &&
      keepalived --config-test=${result} -f ${file}; cat ${result}`;
    const { stdout, stderr } = spawnSync("unshare", ["-n", "sh", "-c", script], { encoding: "utf8" });
    // The scripts that the examples name are not on this machine.
    return `${stdout}${stderr}`
      .split("\n")
      .filter((line) => !/script|not found|notify/i.test(line))
      .join("\n")
      .trim();
  };
  it("and there are some", () => expect(blocks.length).toBe(4));
  it.each(blocks.map((text, i) => [i + 1, text] as const))("number %i", (_, text) =>
    expect(verdict(text)).toBe(""),
  );
  it("or says what is wrong", () =>
    expect(verdict("vrrp_instance x {\n    virtual_router 51\n}\n")).not.toBe(""));
});
