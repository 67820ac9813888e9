/** Every console block of the guide is what the command prints. `UPDATE_GUIDE=1` writes them anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it, vi } from "vitest";
import { CommandExit } from "./exit-codes.ts";
import { buildProgram } from "./program.ts";

const guide = new URL("../../docs/guide/availability.md", import.meta.url).pathname;

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
