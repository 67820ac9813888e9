import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { documents, withFigures } from "../../scripts/figures.mjs";
import { buildProgram } from "../../src/cli/program.ts";
import { loadSite } from "../../src/config/load.ts";

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");
const readme = read("README.md");
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, "g"))].map(
    (match) => match[1] ?? "",
  );

describe("README", () => {
  it("shows a site file that loads", async () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-readme-"));
    try {
      expect(blocks("yaml").length).toBeGreaterThan(0);
      for (const text of blocks("yaml")) {
        const file = join(directory, "site.yaml");
        writeFileSync(file, text);
        expect((await loadSite(file)).site.site).toBe("shop");
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it("names only commands that exist", () => {
    const commands = new Set(buildProgram().commands.flatMap((c) => [c.name(), ...c.aliases()]));
    const scripts = (JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts;
    const said = blocks("sh").flatMap((text) =>
      [...text.matchAll(/^nines ([a-z]+)/gm)].map((m) => m[1] ?? ""),
    );
    expect(said.length).toBeGreaterThan(5);
    for (const command of said) expect(commands, command).toContain(command);
    for (const [, script] of readme.matchAll(/npm (?:run )?([a-z:]+)/g)) {
      expect(["ci", ...Object.keys(scripts)], script).toContain(script);
    }
  });

  it("links to what exists", () => {
    for (const [, target] of readme.matchAll(/\]\(([^)#]+)\)/g)) {
      expect(existsSync(new URL(`../../${target}`, import.meta.url)), target).toBe(true);
    }
  });
});

describe("documents", () => {
  it("show the figures of bench/results", async () => {
    for (const file of documents()) {
      const text = readFileSync(file, "utf8");
      expect(await withFigures(text), file.pathname).toBe(text);
    }
  });
});
