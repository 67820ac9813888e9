import type { IpAddress } from "../base/addresses.ts";
import { messageOf } from "../base/errors.ts";
import { type Clock, type DurationMs, type MonotonicMs, ms, seconds, timeSince } from "../base/time.ts";
import type { RedundancyPlan } from "../contracts/redundancy.ts";
import { type Fence, NftFence } from "../linux/nftables/fence.ts";

/** What somebody else changed in the tables is repaired this often. */
const REPAIR_EVERY = seconds(5);
/** After a takeover, how long packets of connections that are not known here are dropped: entries may be as late. */
const SETTLE = ms(500);
/** Refused tables are tried again soon: a predecessor may have owned them until a moment ago. */
const AGAIN_AFTER = ms(500);

export interface FencingOptions {
  readonly clock: Clock;
  /** The fenced addresses that this node holds now. */
  readonly held: () => readonly IpAddress[];
  readonly onProblem: (what: string, reason: string) => void;
}

/**
 * The fence of this node: who holds an address answers for it only as long as the elements of the fence are renewed.
 * Where the kernel refuses the tables, addresses go by their lease alone, which is said; it is tried again.
 */
export class Fencing {
  readonly #options: FencingOptions;
  readonly #fence: Fence;
  #planned: readonly IpAddress[] = [];
  #settles = false;
  #stands: "unknown" | "yes" | "no" = "unknown";
  #installedAt: MonotonicMs;
  #closed = false;

  constructor(options: FencingOptions) {
    this.#options = options;
    this.#installedAt = options.clock.monotonic();
    this.#fence = new NftFence({ clock: options.clock, onError: () => this.#again() });
  }

  plan(plan: RedundancyPlan): Promise<void> {
    const addresses = plan.routers.flatMap((router) =>
      router.fence ? router.instances.flatMap((i) => i.addresses.map((a) => a.address)) : [],
    );
    this.#planned = [...new Set(addresses)];
    this.#settles = plan.routers.some(({ flows }) => (flows?.settle.length ?? 0) > 0);
    return this.#install();
  }
  renew(): void {
    if (this.#stands !== "yes") return;
    const held = this.#options.held();
    if (held.length > 0) this.#fence.renew(held, held);
  }
  /** These addresses come to this node. */
  settle(addresses: readonly IpAddress[]): void {
    if (this.#stands === "yes" && this.#settles && addresses.length > 0)
      this.#fence.settle(addresses, SETTLE);
  }
  /** The elements stay for `lasting` without a renewal: the next process of this node needs a moment. */
  linger(lasting: DurationMs): void {
    if (this.#stands !== "yes") return;
    const held = this.#options.held();
    this.#fence.renew(held, held, lasting);
  }
  close(addresses: readonly IpAddress[]): void {
    if (this.#stands === "yes") this.#fence.close(addresses);
  }
  look(now: MonotonicMs): void {
    const every = this.#stands === "no" ? AGAIN_AFTER : REPAIR_EVERY;
    if (timeSince(now, this.#installedAt) >= every) this.#again();
  }
  async uninstall(): Promise<void> {
    await this.#fence.uninstall().catch(() => undefined);
  }
  dispose(): void {
    this.#closed = true;
    this.#fence.dispose();
  }

  #again(): void {
    if (!this.#closed) void this.#install();
  }
  async #install(): Promise<void> {
    const { clock, onProblem } = this.#options;
    this.#installedAt = clock.monotonic();
    if (this.#planned.length === 0 && this.#stands !== "yes") return;
    try {
      await this.#fence.install(this.#planned, this.#settles);
      this.#stands = "yes";
      this.renew();
    } catch (error) {
      this.#stands = "no";
      onProblem("the fence (addresses then go by their lease only)", messageOf(error));
    }
  }
}
