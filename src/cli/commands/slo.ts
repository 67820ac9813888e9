import type { Command } from "commander";
import { CommandExit } from "../exit-codes.ts";

interface SloOptions {
  store: string[];
  month?: string;
  at?: string;
  drills: string[];
  json?: boolean;
  markdown?: string | true;
  html?: string;
}
interface AddOptions {
  store: string;
  service: string;
  from: string;
  to: string;
  cause: string;
}

const several = (value: string, before: string[]): string[] => [...before, value];
function instantOf(text: string): number {
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw new CommandExit("usage", `"${text}" is no date such as 2026-03-01T10:00:00Z`);
  return at;
}

export function registerSlo(program: Command): void {
  const slo = program
    .command("slo")
    .description("availability as measured: budgets, burn rates, monthly reports, promised beside measured");
  slo
    .command("show", { isDefault: true })
    .description("the accounts of every service over its target's window, or over one month")
    .argument("<site>", "the site file")
    .option("--store <dir>", "where a node keeps its accounts (several times for more nodes)", several, [])
    .option("--month <yyyy-mm>", "this calendar month (UTC) instead of the window that ends now")
    .option("--at <instant>", "as it was then: 2026-03-01T10:00:00Z")
    .option("--drills <report.json>", "what drills measured, for the promise", several, [])
    .option("--json", "for programs")
    .option("--markdown [file]", "the report as Markdown")
    .option("--html <file>", "the report as a page")
    .action(async (site: string, options: SloOptions) => {
      const { showAccounts } = await import("../slo-run.ts");
      await showAccounts(site, {
        ...options,
        ...(options.at === undefined ? {} : { now: instantOf(options.at) }),
      });
    });
  slo
    .command("add")
    .description("enter an outage that the nodes could not see, e.g. one that a probe outside found")
    .requiredOption("--store <dir>", "where the node keeps its accounts")
    .requiredOption("--service <name>")
    .requiredOption("--from <instant>", "2026-03-01T10:00:00Z")
    .requiredOption("--to <instant>")
    .requiredOption("--cause <words>", "why, in a sentence")
    .action(async (options: AddOptions) => {
      const [from, to] = [instantOf(options.from), instantOf(options.to)];
      if (to <= from) throw new CommandExit("usage", "the outage ends before it begins");
      const { Journal } = await import("../../availability/accounts/journal.ts");
      const journal = new Journal(options.store);
      journal.append({ kind: "outage", from, to, service: options.service, cause: options.cause });
      journal.close();
      console.log(`entered: ${options.service} was down for ${Math.round((to - from) / 1000)} s`);
    });
}
