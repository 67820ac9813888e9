import type { DRILL_NAMES } from "../../config/schema/lab.ts";
import { addressDeleted } from "./address-deleted.ts";
import { advertsOneWay } from "./adverts-one-way.ts";
import { backendChanged } from "./backend-changed.ts";
import { backendKilled } from "./backend-killed.ts";
import { bothBrainsKilled, brainKilled } from "./brain-killed.ts";
import type { Drill } from "./drill.ts";
import { failback } from "./failback.ts";
import { flowsKilled } from "./flows-killed.ts";
import { foreignMark } from "./foreign-mark.ts";
import { forwardDrop } from "./forward-drop.ts";
import { hang } from "./hang.ts";
import { hungResolver } from "./hung-resolver.ts";
import { killAll } from "./kill-all.ts";
import { linkDownBack, linkDownFront } from "./link-down.ts";
import { linkFlap } from "./link-flap.ts";
import { nodeDrained } from "./node-drained.ts";
import { partition } from "./partition.ts";
import { powerCut } from "./power-cut.ts";
import { proxyCut } from "./proxy-cut.ts";
import { proxyKilled } from "./proxy-killed.ts";
import { redundancyKilled } from "./redundancy-killed.ts";
import { rollingUpgrade } from "./rolling-upgrade.ts";
import { rulesetFlushed } from "./ruleset-flushed.ts";
import { starvation } from "./starvation.ts";
import { switchover } from "./switchover.ts";

type DrillName = (typeof DRILL_NAMES)[number];

/** All drills, in the order of their names' list. */
export function allDrills(options: { readonly minutes: number } = { minutes: 10 }): readonly Drill[] {
  const drills: { readonly [name in DrillName]: Drill } = {
    switchover,
    failback,
    "kill-all": killAll,
    "power-cut": powerCut,
    "link-down-front": linkDownFront,
    "link-down-back": linkDownBack,
    "link-flap": linkFlap,
    hang,
    "adverts-one-way": advertsOneWay,
    partition,
    "backend-killed": backendKilled,
    "brain-killed": brainKilled,
    "both-brains-killed": bothBrainsKilled,
    "redundancy-killed": redundancyKilled,
    "proxy-killed": proxyKilled,
    "proxy-cut": proxyCut,
    "flows-killed": flowsKilled,
    "rolling-upgrade": rollingUpgrade,
    "node-drained": nodeDrained,
    "backend-changed": backendChanged,
    "address-deleted": addressDeleted,
    "ruleset-flushed": rulesetFlushed,
    "foreign-mark": foreignMark,
    "forward-drop": forwardDrop,
    "hung-resolver": hungResolver,
    starvation: starvation(options.minutes),
  };
  return Object.values(drills);
}
