/**
 * Every console block of the guide is what the command prints, and the README's table of promises what it says of the
 * examples. `UPDATE_GUIDE=1` writes them anew.
 */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { format } from "prettier";
import { describe, expect, it, vi } from "vitest";
import { CommandExit } from "./exit-codes.ts";
import { buildProgram } from "./program.ts";

const guide = new URL("../../docs/guide/availability.md", import.meta.url).pathname;

const readme = new URL("../../README.md", import.meta.url).pathname;
const examples = new URL("../../examples/", import.meta.url).pathname;

async function printed(args: readonly string[]): Promise<string> {
  const lines: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((text: string) => void lines.push(text));
  try {
    await buildProgram().parseAsync(args, { from: "user" });
  } catch (thrown) {
    if (!(thrown instanceof CommandExit)) throw thrown;
  } finally {
    log.mockRestore();
  }
  return lines.join("\n");
}

describe("docs/guide/availability.md", () => {
  it("shows what the commands print", { timeout: 30_000 }, async () => {
    vi.stubEnv("NO_COLOR", "1");
    const text = readFileSync(guide, "utf8");
    const blocks = [...text.matchAll(/```console\n\$ nines ([^\n]*)\n[\s\S]*?\n```/g)];
    expect(blocks.length).toBeGreaterThan(4);
    let fresh = text;
    for (const [block, command = ""] of blocks) {
      const output = await printed(command.split(" "));
      fresh = fresh.replace(block, () => `\`\`\`console\n$ nines ${command}\n${output}\n\`\`\``);
    }
    if (process.env["UPDATE_GUIDE"] === "1") writeFileSync(guide, fresh);
    else expect(text).toBe(fresh);
  });
});

describe("README.md", () => {
  it("says what the example sites promise", { timeout: 30_000 }, async () => {
    vi.stubEnv("NO_COLOR", "1");
    const rows = [["site", "service", "availability", "without service a year", "naive product"]];
    for (const name of readdirSync(examples).sort()) {
      const file = readdirSync(`${examples}${name}`).find((each) => /^site\.(yaml|ts)$/.test(each));
      const lines = (await printed(["plan", `${examples}${name}/${file}`])).split("\n");
      const first = lines.findIndex((line) => line.startsWith("  service"));
      for (const line of lines.slice(first + 1)) {
        const [service = "", availability = "", , year = "", , , naive] = line.trim().split(/ {2,}/);
        if (naive === undefined) break;
        rows.push([name, service, availability, year, naive]);
      }
    }
    const [head = [], ...rest] = rows;
    const table = [head, head.map((_, i) => (i < 2 ? "---" : "---:")), ...rest]
      .map((cells) => `| ${cells.join(" | ")} |`)
      .join("\n");
    const text = readFileSync(readme, "utf8");
    const block = /(<!-- promises -->\n)[\s\S]*?(<!-- \/promises -->)/;
    expect(text).toMatch(block);
    const fresh = await format(
      text.replace(block, (_, open, close) => `${open}\n${table}\n\n${close}`),
      { parser: "markdown", printWidth: 110 },
    );
    if (process.env["UPDATE_GUIDE"] === "1") writeFileSync(readme, fresh);
    else expect(text).toBe(fresh);
  });
});
