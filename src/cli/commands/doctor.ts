import type { Command } from "commander";
import type { Finding } from "../../daemon/doctor/policy.ts";
import { CommandExit } from "../exit-codes.ts";

interface Options {
  node?: string;
  json?: boolean;
}

export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .description(
      "what on this host will break forwarding or failover, why, and how to mend it; changes nothing",
    )
    .argument("[site]", "the site file, to look at what this node needs only")
    .option("--node <name>", "which node of the site this host is; needed with a site file")
    .option("--json", "the findings as JSON")
    .action(async (file: string | undefined, options: Options) => {
      if ((file === undefined) !== (options.node === undefined))
        throw new CommandExit("usage", "doctor needs both the site file and --node, or neither");
      const { examine } = await import("../../daemon/doctor/examine.ts");
      const { findings, unknown } = await examine(file, options.node);
      if (options.json === true) console.log(JSON.stringify({ findings, unknown }, undefined, 2));
      else await print(findings, unknown);
      if (findings.some(({ severity }) => severity === "error")) throw new CommandExit("negative");
    });
}

async function print(findings: readonly Finding[], unknown: readonly string[]): Promise<void> {
  const { painter } = await import("../paint.ts");
  const paint = painter();
  for (const { severity, what, why, mend } of findings) {
    const label = severity === "error" ? paint("red", "ERROR") : paint("yellow", "warning");
    console.log(`${label} ${what}\n  why:  ${why}\n  mend: ${mend}`);
  }
  for (const each of unknown) console.log(`${paint("dim", "not looked at")} ${each}`);
  const errors = findings.filter(({ severity }) => severity === "error").length;
  console.log(
    findings.length === 0 ? "nothing found" : `${errors} errors, ${findings.length - errors} warnings`,
  );
}
