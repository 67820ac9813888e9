import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { errorsReference } from "./reference.ts";

it("the reference of errors is current (npm run docs)", () => {
  const page = new URL("../../docs/reference/errors.md", import.meta.url);
  expect(readFileSync(page, "utf8")).toBe(errorsReference());
});
