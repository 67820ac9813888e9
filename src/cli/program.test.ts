import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { ConfigError, OperationalError } from "../base/errors.ts";
import { CommandExit, EXIT_CODES } from "./exit-codes.ts";
import { describeFailure, exitStatus } from "./failures.ts";
import { buildProgram } from "./program.ts";

describe("the command line", () => {
  it("gives every command a description and every option an explanation", () => {
    for (const command of buildProgram().commands) {
      expect(command.description(), command.name()).not.toBe("");
      for (const option of command.options)
        expect(option.description, `${command.name()} ${option.flags}`).not.toBe("");
    }
  });
  it("loads no schema before a command asks for one, so that --help and completion stay quick", () => {
    const loaded = ["zod", "yaml", "pino", "prom-client"];
    const seen = new Set<string>();
    const follow = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const [, type, from = ""] of readFileSync(file, "utf8").matchAll(
        /^(?:import|export) (type )?[^;]*?from "([^"]+)";/gm,
      )) {
        if (type !== undefined) continue;
        expect(loaded, `${file} imports ${from}`).not.toContain(from);
        if (from.startsWith(".")) follow(join(dirname(file), from));
      }
    };
    follow(join(import.meta.dirname, "main.ts"));
    expect(seen.size).toBeGreaterThan(20);
  });
  it("says what is wrong with the dates of an outage", async () => {
    const add = ["slo", "add", "--store", "/nowhere", "--service", "web", "--cause", "x"];
    const late = ["2026-03-01T10:00:00Z", "2026-03-01T09:00:00Z"] as const;
    for (const [args, message] of [
      [[...add, "--from", "yesterday", "--to", late[0]], /"yesterday" is no date such as/],
      [[...add, "--from", late[0], "--to", late[1]], /ends before it begins/],
      [["slo", "show", "site.yaml", "--at", "noon"], /"noon" is no date such as/],
    ] as const) {
      const failure = describeFailure(
        await buildProgram()
          .parseAsync(args, { from: "user" })
          .then(
            () => undefined,
            (error: unknown) => error,
          ),
      );
      expect(failure).toMatchObject({ exit: "usage", message: expect.stringMatching(message) as string });
    }
  });
  it("ends with the status of usage errors for what it does not know", async () => {
    const quiet = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    for (const args of [["nonsense"], ["run"], ["run", "site.yaml", "--node", "a", "--nonsense"]]) {
      const thrown: unknown = await buildProgram()
        .parseAsync(args, { from: "user" })
        .then(
          () => undefined,
          (error: unknown) => error,
        );
      expect(describeFailure(thrown).exit, args.join(" ")).toBe("usage");
    }
    quiet.mockRestore();
  });
});

describe("failures", () => {
  it("tells the user's mistakes, the world's and ours apart", () => {
    const issue = { file: "site.yaml", line: 1, column: 2, path: "nodes", message: "missing" };
    const config = describeFailure(new ConfigError([issue]));
    expect([config.exit, config.message]).toEqual([
      "config",
      "site.yaml:1:2: nodes: missing\n1 mistake; nothing was started or changed",
    ]);
    expect(describeFailure(new OperationalError("TIMEOUT", "late")).exit).toBe("timeout");
    expect(describeFailure(new OperationalError("CONFLICT", "no", { retryable: true })).message).toContain(
      "CONFLICT",
    );
    expect(describeFailure(new CommandExit("negative", "no"))).toEqual({ exit: "negative", message: "no" });
    expect(describeFailure(new TypeError("x is not a function")).exit).toBe("bug");
  });
  it("has one status per meaning", () => {
    const codes = Object.values(EXIT_CODES).map((entry) => entry.code);
    expect(new Set(codes).size).toBe(codes.length);
    expect(exitStatus("usage")).toBe(2);
  });
});
