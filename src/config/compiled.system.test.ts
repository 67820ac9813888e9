import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const root = new URL("../../", import.meta.url).pathname;
const program = join(root, "dist/cli/main.js");

describe.skipIf(!existsSync(program))("the compiled program", () => {
  const directory = mkdtempSync(join(tmpdir(), "nines-compiled-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  it("reads a site.ts that lies where nothing is installed", () => {
    const file = join(directory, "site.ts");
    copyFileSync(join(root, "examples/dual-stack/site.ts"), file);
    const { status, stdout, stderr } = spawnSync("node", [program, "check", file], {
      encoding: "utf8",
      cwd: directory,
    });
    expect(stdout + stderr).toContain(`${file}: good; site dual-stack: 2 nodes`);
    expect(status).toBe(0);
  });
  it("prints the JSON Schema, and ends with 3 on a wrong file", () => {
    const schema = spawnSync("node", [program, "schema"], { encoding: "utf8" });
    expect(JSON.parse(schema.stdout)).toMatchObject({ title: "nines site file", type: "object" });
    expect(spawnSync("node", [program, "check", "/no/such/site.yaml"]).status).toBe(3);
  });
});
