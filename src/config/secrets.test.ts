import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readSecret } from "./secrets.ts";

const directory = mkdtempSync(join(tmpdir(), "nines-secret-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe("secrets", () => {
  it("come from a file without its line end, or from the environment", async () => {
    const file = join(directory, "key");
    writeFileSync(file, "hunter2 \n");
    expect(await readSecret({ file })).toBe("hunter2 ");
    expect(await readSecret({ env: "KEY" }, { KEY: "hunter2" })).toBe("hunter2");
  });
  it("are missed by name, and never shown", async () => {
    writeFileSync(join(directory, "empty"), "\n");
    writeFileSync(join(directory, "large"), "hunter2".repeat(20_000));
    await expect(readSecret({ env: "KEY" }, {})).rejects.toThrow(
      "the environment variable KEY holds no secret",
    );
    await expect(readSecret({ env: "KEY" }, { KEY: "" })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(readSecret({ file: "/no/such" })).rejects.toThrow(
      "the secret /no/such cannot be read (ENOENT)",
    );
    await expect(readSecret({ file: join(directory, "empty") })).rejects.toThrow("is empty");
    await expect(readSecret({ file: join(directory, "large") })).rejects.toThrow(/larger than 64 KiB$/);
  });
});
