import type { Command } from "commander";
import type { Explanation } from "../../contracts/api.ts";
import { withRuntime } from "../client.ts";

export function registerExplain(program: Command): void {
  withRuntime(program.command("explain"))
    .description("why this node is Active or not, or why a backend gets traffic or none, in sentences")
    .argument("[what]", "a virtual router, or POOL/BACKEND (default: every router)")
    .option("--json", "as JSON")
    .action(
      async (what: string | undefined, options: { json?: boolean; runtime?: string }, command: Command) => {
        const { ask, findNode } = await import("../client.ts");
        const query = new URLSearchParams();
        const [pool, backend] = what?.split("/") ?? [];
        if (pool !== undefined && backend !== undefined) {
          query.set("pool", pool);
          query.set("backend", backend);
        } else if (what !== undefined) query.set("router", what);
        const path = `/v1/explain?${query.toString()}`;
        const explanations = await ask<Explanation[]>(await findNode(command), "GET", path);
        if (options.json === true) console.log(JSON.stringify(explanations, undefined, 2));
        else if (explanations.length === 0) console.log("The site has no virtual routers.");
        else {
          const blocks = explanations.map(({ about, sentences }) =>
            [`${about}:`, ...sentences.map((each) => `  ${each}`)].join("\n"),
          );
          console.log(blocks.join("\n\n"));
        }
      },
    );
}
