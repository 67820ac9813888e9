/** What the brain needs of the rooms, in its own words; compose.ts plugs the rooms in. */
import type { AdminState, BackendStatus, ForwardedService } from "../contracts/forwarding.ts";
import type { MetricSample } from "../contracts/metrics.ts";
import type { RedundancyPlan } from "../contracts/redundancy.ts";
import type { Site } from "../contracts/site.ts";
import type { ChildContext } from "./child.ts";
import type { ChildWish } from "./messages-parent.ts";

export interface SiteFile {
  readonly site: Site;
  readonly digest: string;
  /** `file:line:column: path: message` of what is probably not meant. */
  readonly warnings: readonly string[];
}

export interface HealthPort {
  /** Starts the checks of a site, or goes on with those that are the same. */
  update(site: Site): void;
  stop(): void;
  statuses(): readonly BackendStatus[];
  /** Throws OperationalError NOT_FOUND; settles when a persistent state is on disk. */
  setAdmin(pool: string, backend: string, state: AdminState, persist: boolean): Promise<void>;
  metrics(): readonly MetricSample[];
  /** Why this node is probably cut off from all backends; undefined where nothing speaks for it. */
  isolated?(): string | undefined;
}

export interface ForwarderPort {
  /** What shall be forwarded; differences reach the kernel in one transaction. */
  apply(site: Site, backends: readonly BackendStatus[]): void;
  /** Empty where the kernel has what it should have; otherwise why not. */
  problem(): string;
  /** How each service forwards, and why. */
  explain(): readonly ForwardedService[];
  /** Reads the kernel's counters. */
  metrics(): Promise<readonly MetricSample[]>;
  counters(): Readonly<Record<string, number>>;
  /** Deletes the connections of a backend; answers how many. */
  kill(pool: string, backend: string): Promise<number>;
  /** `remove`: nothing of it stays in the kernel. Otherwise it goes on forwarding. */
  stop(remove: boolean): Promise<void>;
}

export interface BrainPorts {
  readonly version: string;
  loadSite(file: string): Promise<SiteFile>;
  plan(site: Site, node: string, digest: string): RedundancyPlan;
  /** What is different, a sentence each. */
  differences(before: Site, after: Site): readonly string[];
  /** Processes that the site asks for beside brain and redundancy. */
  children(site: Site, node: string): readonly ChildWish[];
  health(
    context: Pick<ChildContext, "clock" | "log" | "state" | "runtime">,
    changed: () => void,
  ): HealthPort | Promise<HealthPort>;
  forwarder(
    context: Pick<ChildContext, "clock" | "log" | "node" | "runtime" | "successor">,
    site: Site,
  ): ForwarderPort | Promise<ForwarderPort>;
}
