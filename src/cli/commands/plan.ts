import { type Command, InvalidArgumentError } from "commander";
import { CommandExit } from "../exit-codes.ts";

interface PlanOptions {
  drills: string[];
  without: string[];
  set: string[];
  json?: boolean;
  html?: string;
  openPsa?: string;
  inputs?: boolean;
  top: number;
  maxOrder: number;
}

const several = (value: string, before: string[]): string[] => [...before, value];
function whole(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 10_000)
    throw new InvalidArgumentError("expected 1 to 10000.");
  return value;
}

export function registerPlan(program: Command): void {
  program
    .command("plan")
    .description("compute what availability the site promises, what threatens it and what would mend it")
    .argument("<site>", "the site file; or a fault tree as Open-PSA XML (model.xml)")
    .argument("[other]", "a second site file, to compare with the first")
    .option("--drills <report.json>", "prefer what drills measured (several times for more)", several, [])
    .option("--without <name>", "as if this node, backend, zone, feed or dependency were down", several, [])
    .option(
      "--set <path=value>",
      "as if the site file said so: availability.failover.coverage=0.99",
      several,
      [],
    )
    .option("--inputs", "show every input and where it comes from")
    .option("--top <n>", "rows per table", whole, 8)
    .option("--max-order <n>", "for Open-PSA models: leave out larger cut sets", whole, 20)
    .option("--json", "for programs: the whole plan")
    .option("--html <file>", "write a page with the fault trees and a chart of nines")
    .option("--open-psa <file>", "write the fault trees as Open-PSA XML")
    .action(async (file: string, other: string | undefined, options: PlanOptions) => {
      if (file.endsWith(".xml")) {
        const { planModel } = await import("../plan-model.ts");
        await planModel([file, ...(other === undefined ? [] : [other])], options);
        return;
      }
      const { runPlan } = await import("../plan-run.ts");
      const kept = await runPlan(file, other, options);
      if (!kept) throw new CommandExit("negative");
    });
}
