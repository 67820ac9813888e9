import { resolve } from "node:path";
import type { Command } from "commander";

export interface RunOptions {
  node: string;
  runtime?: string;
  state?: string;
  lastGood?: boolean;
}

export function registerRun(program: Command): void {
  program
    .command("run")
    .description("run this node of the site (what systemd starts)")
    .argument("<site>", "the site file: site.yaml or site.ts")
    .requiredOption("--node <name>", "which node of the site this host is")
    .option("--runtime <dir>", "sockets of the running node (default: /run/nines/NODE)")
    .option("--state <dir>", "what outlives a restart (default: /var/lib/nines/NODE)")
    .option("--last-good", "where the site file is wrong, run the one accepted last, and say so (an alarm)")
    .action(async (site: string, options: RunOptions) => {
      const [{ runParent }, { hostPorts }] = await Promise.all([
        import("../../daemon/parent.ts"),
        import("../../daemon/parent-ports.ts"),
      ]);
      const { status, reason } = await runParent(
        {
          site: resolve(site),
          node: options.node,
          runtime: options.runtime ?? `/run/nines/${options.node}`,
          state: options.state ?? `/var/lib/nines/${options.node}`,
          lastGood: options.lastGood === true,
        },
        hostPorts(),
      );
      if (reason !== undefined) console.error(`nines: ${reason}`);
      process.exit(status);
    });
}
