import { type DurationMs, ms, seconds } from "../base/time.ts";
import type { SlotConfig } from "./machine-supervisor.ts";

/** A kind of child. Adding a process to the node is a row here and an entry file beside this one. */
export interface ChildKind {
  readonly name: string;
  /** Without its ending, in src/daemon or dist/daemon. */
  readonly entry: string;
  /** Started under SCHED_RR with this priority where the host allows it; all its threads inherit it. */
  readonly realtime?: number;
  /** Node's and V8's flags: idle processes shall be small. */
  readonly flags: readonly string[];
  readonly threads: number;
  readonly slot: SlotConfig;
  /** One process more is kept loaded, to take the place of one that crashes. */
  readonly spare?: boolean;
}

const slot = (
  stopWithin: DurationMs,
  silence: DurationMs,
  backoffMost: DurationMs,
  overlap = false,
): SlotConfig => ({
  overlap,
  startWithin: seconds(15),
  stopWithin,
  silence,
  backoffFirst: ms(100),
  backoffMost,
});

// A young generation of 1 MiB instead of 16 keeps an idle heap from growing before its first collection.
const small = ["--max-semi-space-size=1", "--max-old-space-size=96"];
const middling = ["--max-semi-space-size=1", "--max-old-space-size=512"];

/** In the order in which they start; they end in the reverse order, so that addresses go first. */
export const CHILD_KINDS: readonly ChildKind[] = [
  {
    name: "brain",
    entry: "brain-entry",
    flags: middling,
    threads: 2,
    slot: slot(seconds(8), seconds(20), seconds(10)),
  },
  {
    name: "flows",
    entry: "flows-entry",
    flags: middling,
    threads: 1,
    slot: slot(seconds(5), seconds(20), seconds(5)),
  },
  {
    name: "proxy",
    entry: "proxy-entry",
    flags: [],
    threads: 4,
    slot: slot(seconds(55), seconds(20), seconds(5), true),
    spare: true,
  },
  {
    name: "dns",
    entry: "dns-entry",
    flags: [],
    threads: 2,
    slot: slot(seconds(5), seconds(20), seconds(5), true),
  },
  {
    name: "redundancy",
    entry: "redundancy-entry",
    // Above ordinary work and below the kernel's own threads (50), which carry its packets.
    realtime: 40,
    flags: small,
    threads: 1,
    // Its silence is a hang: the lease has run out by then, and a restart takes over afresh.
    slot: slot(seconds(8), seconds(5), seconds(1)),
  },
];
