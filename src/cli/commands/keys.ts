import { dirname, resolve } from "node:path";
import type { Command } from "commander";

export function registerKeys(program: Command): void {
  program
    .command("keys")
    .argument("<site>", "the site file")
    .argument(
      "[directory]",
      "where to; by default as `keys` of the site file's flows, control or certificates says",
    )
    .description("make the certificates with which the site's nodes know each other; what is there is kept")
    .action(async (file: string, directory?: string) => {
      const { loadSite } = await import("../../config/load.ts");
      const { makeKeys } = await import("../../forwarding/flows/keys.ts");
      const { site } = await loadSite(file);
      const named = site.flows?.keys ?? site.control?.keys ?? site.certificates?.keys ?? "keys";
      const target = directory ?? resolve(dirname(file), named);
      const made = await makeKeys(target, site.site, Object.keys(site.nodes));
      const what = made.length === 0 ? "all there" : made.join(" ");
      console.log(`${target}: ${what}`);
      if (made.length > 0)
        console.log("give each node ca.crt and its own NODE.crt and NODE.key; keep ca.key elsewhere");
    });
}
