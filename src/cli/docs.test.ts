import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ROUTES } from "../api/routes.ts";
import { ALARMS } from "../daemon/brain/policy.ts";
import { EXIT_CODES } from "./exit-codes.ts";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

/** The rows of the table between `<!-- name -->` and `<!-- /name -->`, cells trimmed. */
function rows(text: string, name: string): string[][] {
  const block = text.split(`<!-- ${name} -->`)[1]?.split(`<!-- /${name} -->`)[0] ?? "";
  return block
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .slice(2)
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

describe("documents", () => {
  const operations = read("docs/guide/operations.md");
  it("have the exit codes that the program has", () => {
    expect(rows(operations, "exit codes")).toEqual(
      Object.values(EXIT_CODES).map(({ code, meaning }) => [String(code), meaning]),
    );
  });
  it("have the alarms that the program raises", () => {
    expect(rows(operations, "alarms")).toEqual(
      Object.entries(ALARMS).map(([name, meaning]) => [`\`${name}\``, meaning]),
    );
  });
  it("alert on metrics that there are", () => {
    const alerts = operations.split("\n## Alerts\n")[1]?.split("\n## ")[0] ?? "";
    const names = [...alerts.matchAll(/nines_[a-z_]+/g)].map(([name]) => name);
    expect(names.length).toBeGreaterThan(3);
    const metrics = read("src/daemon/brain/metrics.ts");
    for (const name of names) expect(metrics, name).toContain(`"${name}"`);
  });
  it("have the routes of the control API", () => {
    expect(rows(read("docs/reference/api.md"), "routes")).toEqual(
      ROUTES.map(({ method, path, about }) => [`\`${method} ${path}\``, about]),
    );
  });
});
