import type { Command } from "commander";

export interface RunOptions {
  node: string;
  runtime?: string;
  state?: string;
}

export function registerRun(program: Command): void {
  program
    .command("run")
    .description("run this node of the site (what systemd starts)")
    .argument("<site>", "the site file: site.yaml or site.ts")
    .requiredOption("--node <name>", "which node of the site this host is")
    .option("--runtime <dir>", "sockets of the running node (default: /run/nines/NODE)")
    .option("--state <dir>", "what outlives a restart (default: /var/lib/nines/NODE)")
    .action(async (site: string, options: RunOptions) => {
      const { runParent } = await import("../../daemon/parent.ts");
      process.exitCode = await runParent({
        site,
        node: options.node,
        runtime: options.runtime ?? `/run/nines/${options.node}`,
        state: options.state ?? `/var/lib/nines/${options.node}`,
      });
    });
}
