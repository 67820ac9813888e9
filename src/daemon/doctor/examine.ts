import { SystemClock } from "../../base/system-clock.ts";
import { seconds } from "../../base/time.ts";
import { loadSite } from "../../config/load.ts";
import { planFor } from "../../redundancy/plan.ts";
import { hostFacts } from "./facts.ts";
import { type Finding, findings, needsOf } from "./policy.ts";

/** Longer than three intervals of the slowest usual advertisement. */
const LISTEN = seconds(4);

/** What `nines doctor` finds, for one node of a site or for any. */
export async function examine(
  file: string | undefined,
  node: string | undefined,
): Promise<{ findings: readonly Finding[]; unknown: readonly string[] }> {
  const loaded = file === undefined ? undefined : await loadSite(file);
  const plan = loaded && node !== undefined ? planFor(loaded.site, node, loaded.digest) : undefined;
  const facts = await hostFacts({ clock: new SystemClock(), plan, listen: LISTEN });
  return { findings: findings(facts, needsOf(loaded?.site, node)), unknown: facts.unknown };
}
