import type { Command } from "commander";
import { version } from "../version.ts";

export function registerVersion(program: Command): void {
  program
    .command("version")
    .description("print the version of nines and of what it runs on")
    .option("--json", "as JSON")
    .action((options: { json?: boolean }) => {
      const facts = {
        nines: version(),
        node: process.versions.node,
        platform: `${process.platform} ${process.arch}`,
      };
      if (options.json === true) console.log(JSON.stringify(facts));
      else console.log(`nines ${facts.nines} (Node ${facts.node}, ${facts.platform})`);
    });
}
