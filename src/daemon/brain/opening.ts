/** The site with which a node begins. */
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { ChildContext } from "../child.ts";
import type { BrainPorts, SiteFile } from "../ports.ts";
import { AcceptedSite } from "./accepted.ts";

/**
 * A restarted brain goes on with the site that was last accepted where the file has become wrong meanwhile; so
 * does a restarted node where that is asked for (`--last-good`).
 */
export async function openingSite(
  context: ChildContext,
  ports: BrainPorts,
): Promise<{ file: SiteFile; problem: string }> {
  try {
    const file = await ports.loadSite(context.site);
    if (context.successor || context.lastGood) checkNode(file, context.node);
    return { file, problem: "" };
  } catch (thrown) {
    const before = context.successor || context.lastGood;
    const file = before ? await new AcceptedSite(context.state).read() : undefined;
    if (file?.site.nodes[context.node] === undefined) throw thrown;
    context.log.error({
      event: "site.rejected",
      reason: "the site file is wrong; the site accepted last goes on, and no change since then is in it",
      errors: messageOf(thrown).split("\n"),
    });
    return {
      file,
      problem: `the site file is wrong; the one accepted last runs: ${messageOf(thrown).split("\n")[0]}`,
    };
  }
}

export function checkNode(file: SiteFile, node: string): void {
  if (file.site.nodes[node] !== undefined) return;
  const known = Object.keys(file.site.nodes).join(", ");
  throw new OperationalError("NOT_FOUND", `the site ${file.site.site} has no node ${node}; it has ${known}`);
}
