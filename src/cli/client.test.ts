import { Command } from "commander";
import { afterEach, expect, it, vi } from "vitest";
import type { Target } from "../api/client.ts";
import { findNode, withRuntime } from "./client.ts";

afterEach(() => vi.unstubAllEnvs());

async function found(...args: string[]): Promise<Target | undefined> {
  const program = new Command("nines").option("--control <host>").option("--control-token-file <file>");
  let target: Target | undefined;
  withRuntime(program.command("status")).action(async (_: unknown, command: Command) => {
    target = await findNode(command);
  });
  await program.parseAsync(args, { from: "user" });
  return target;
}

it("asks the node that the command line names, whatever the environment says", async () => {
  vi.stubEnv("NINES_CONTROL", "lb2");
  vi.stubEnv("NINES_CONTROL_TOKEN", "secret");
  expect(await found("status")).toMatchObject({ host: "lb2" });
  expect(await found("status", "--runtime", "/run/nines/lb1")).toBe("/run/nines/lb1/control.sock");
  vi.stubEnv("NINES_RUNTIME", "/run/nines/lb1");
  expect(await found("--control", "lb3", "status")).toMatchObject({ host: "lb3" });
  await expect(found("--control", "lb3", "status", "--runtime", "/run/nines/lb1")).rejects.toThrow(
    /name two nodes/,
  );
});
