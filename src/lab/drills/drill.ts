import type { DrillBudget } from "../../contracts/drills.ts";
import type { Cast, Fault } from "../faults/fault.ts";
import type { Lab } from "../lab.ts";
import type { StreamSpec } from "../probe/stream.ts";

/** What the protocol promises on this site: what budgets are derived from. ms. */
export interface Promises {
  /** The longest advertisement interval of the routers. */
  readonly interval: number;
  /** ActiveDownInterval of the slowest Backup: 3 intervals and its skew (RFC 9568, 6.1). */
  readonly activeDown: number;
  readonly lease: number;
  /** Until the checks call a dead backend down: the slowest pool. */
  readonly checkFall: number;
}

/** A story with a fault and what it may cost. One small file each. */
export interface Drill {
  readonly name: string;
  /** What happens in real life, in a sentence. */
  readonly story: string;
  /** Why it cannot be run here and now. */
  readonly skip?: (lab: Lab) => string | undefined;
  /** Brings the site into the state in which the story begins. */
  readonly prepare?: (lab: Lab) => Promise<void>;
  readonly fault: (cast: Cast, lab: Lab) => Fault;
  /** While the fault lasts: what nines itself should have told and did not; undefined where all is well. */
  readonly diagnose?: (cast: Cast, lab: Lab) => Promise<string | undefined>;
  /** ms between the end of the injection and the heal. */
  readonly hold: (promises: Promises) => number;
  /** Default budget; the site file's `drills:` overrides it line by line. */
  readonly budget: (promises: Promises) => DrillBudget;
  /** Streams beside or instead of the usual ones. */
  readonly streams?: (usual: readonly StreamSpec[], lab: Lab) => readonly StreamSpec[];
  /** Only when it is asked for by name. */
  readonly onlyByName?: boolean;
}
