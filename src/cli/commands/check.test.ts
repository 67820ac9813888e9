import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { describeFailure } from "../failures.ts";
import { buildProgram } from "../program.ts";

const directory = mkdtempSync(join(tmpdir(), "nines-check-"));
afterAll(() => rmSync(directory, { recursive: true }));

const good = `
site: shop
nodes: { lb1: { address: 10.1.0.2 }, lb2: { address: 10.1.0.3 } }
virtualRouters:
  edge: { priorities: { lb1: 110, lb2: 100 }, members: [{ interface: eth0, vrid: 51, addresses: [10.0.0.1] }] }
`;

async function run(text: string, ...options: string[]) {
  const file = join(directory, "site.yaml");
  writeFileSync(file, text);
  const lines: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  const failure = await buildProgram()
    .parseAsync(["check", file, ...options], { from: "user" })
    .then(
      () => undefined,
      (thrown: unknown) => describeFailure(thrown),
    );
  log.mockRestore();
  const output = lines.join("\n").replaceAll(file, "site.yaml");
  return { exit: failure?.exit ?? "ok", message: failure?.message ?? "", output };
}

describe("nines check", () => {
  it("says what a good site is, and what a node does", async () => {
    const { exit, output } = await run(good, "--node", "lb2");
    expect(exit).toBe("ok");
    expect(output).toMatch(
      /^site.yaml: good; site shop: 2 nodes, 1 virtual router, 0 pools, 0 services; digest [0-9a-f]{12}\nlb2: edge with priority 100, VRID 51 on eth0$/,
    );
  });
  it("ends with 3 on mistakes, told one per line", async () => {
    const { exit, message, output } = await run(good.replace("interface", "interfaze"));
    expect([exit, message]).toEqual(["config", ""]);
    expect(output.split("\n").at(-1)).toBe("site.yaml: 1 mistake");
    expect(output).toContain(
      'site.yaml:5:59: virtualRouters.edge.members[0].interfaze: unknown key "interfaze" (did you mean "interface"?)',
    );
  });
  it("ends with 1 on warnings only where they count", async () => {
    const warned = good.replace("lb2: 100", "lb2: 110");
    expect((await run(warned)).exit).toBe("ok");
    const strict = await run(warned, "--strict");
    expect(strict.exit).toBe("negative");
    expect(strict.output).toMatch(
      /^warning: site.yaml:5:40: virtualRouters.edge.priorities.lb2: lb1 and lb2 have the same priority 110/,
    );
  });
  it("ends with 2 on a node that the site does not have", async () => {
    expect(await run(good, "--node", "lb3")).toMatchObject({
      exit: "usage",
      message: 'the site has no node "lb3" (did you mean "lb1"?)',
    });
  });
  it("speaks JSON", async () => {
    const fine = JSON.parse((await run(good, "--json")).output) as object;
    expect(fine).toMatchObject({ good: true, site: "shop", issues: [], warnings: [] });
    const bad = JSON.parse((await run("site: 5", "--json")).output) as object;
    expect(bad).toMatchObject({
      good: false,
      issues: [{ path: "nodes" }, { line: 1, column: 7, path: "site" }],
    });
  });
});
