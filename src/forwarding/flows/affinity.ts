/**
 * Carries the kernel's memory of clients (policy-affinity.ts) to the other nodes. Injected connections do not pass
 * the rules that remember, and connections may end long before their client is forgotten, so the maps themselves are
 * read and compared with what each peer knows. What peers tell goes to the brain, which alone may write its tables.
 */
import { messageOf } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { type Clock, type Timer, addTime, ms, timeSince } from "../../base/time.ts";
import type { AffinityEntry, FlowsToBrain } from "../../contracts/affinity.ts";
import type { Site } from "../../contracts/site.ts";
import { KernelError } from "../../linux/native.ts";
import type { NftFamily } from "../../linux/nftables/model.ts";
import { NftablesService } from "../../linux/nftables/service.ts";
import { entriesOf } from "../affinity.ts";
import { affinitySet } from "../policy-affinity.ts";
import { FAMILIES, TABLE } from "../policy.ts";
import { type AffinityEvents, AffinityStore, type Timeouts } from "./machine-affinity.ts";

export interface AffinityOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Peers that can be told now. */
  reachable(): readonly string[];
  /** All entries are of one service and family. */
  tell(peer: string, entries: readonly AffinityEntry[]): void;
  /** To the brain; false where it does not listen, in which case it asks for everything when it does. */
  remember(message: FlowsToBrain): boolean;
}

/** Between two looks at the maps; longer where a look takes long, so that it costs a twentieth of a core at most. */
const LOOK_EVERY = ms(1000);
const SHARE = 20;
/** Clients that a peer is told per look, and that one message holds. */
const PER_LOOK = 8192;
const PER_MESSAGE = 2048;
/** Between two messages to a brain that asked for everything: it may be more than the link can hold. */
const PACE = ms(25);

export class AffinityService implements AffinityEvents {
  readonly #options: AffinityOptions;
  readonly #nftables: NftablesService;
  readonly #store = new AffinityStore(0);
  readonly #count = { affinityTold: 0, affinityHeard: 0 };
  #timeouts: Timeouts = new Map();
  #timer: Timer | undefined;
  #backlog: AffinityEntry[] = [];
  #pace: Timer | undefined;
  #closed = false;

  private constructor(options: AffinityOptions) {
    this.#options = options;
    this.#nftables = NftablesService.open(options.clock);
    this.#plan(LOOK_EVERY);
  }
  static open(options: AffinityOptions): AffinityService {
    return new AffinityService(options);
  }

  configure(site: Site): void {
    this.#timeouts = replicatedAffinity(site);
    const sizes = [...this.#timeouts.keys()].map((name) => site.services[name]?.forward?.affinity?.size ?? 0);
    // Each service may be there in both families.
    this.#store.limit(2 * sizes.reduce((sum, size) => sum + size, 0));
  }
  get counters(): Readonly<Record<string, number>> {
    return this.#timeouts.size === 0 ? {} : { ...this.#count, affinityDropped: this.#store.dropped };
  }

  connected(peer: string): void {
    this.#store.connected(peer);
  }
  disconnected(peer: string): void {
    this.#store.disconnected(peer);
  }
  received(peer: string, told: readonly AffinityEntry[]): void {
    const entries = told.filter(({ service }) => this.#timeouts.has(service));
    if (entries.length === 0) return;
    this.#count.affinityHeard += entries.length;
    this.#store.received(peer, entries, this.#options.clock.monotonic());
    this.#options.remember({ type: "affinity", entries });
  }

  /** To a brain that has just come, or whose maps were lost. */
  again(): void {
    this.#backlog = this.#store.all(this.#options.clock.monotonic());
    this.#pace?.cancel();
    this.#sendBacklog();
  }

  #sendBacklog(): void {
    const entries = this.#backlog.splice(0, PER_MESSAGE);
    if (this.#closed || entries.length === 0) return;
    if (!this.#options.remember({ type: "affinity", entries })) {
      // It asks again when it is back.
      this.#backlog = [];
      return;
    }
    const { clock } = this.#options;
    this.#pace = clock.setTimer(addTime(clock.monotonic(), PACE), () => this.#sendBacklog());
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#pace?.cancel();
    this.#nftables.close();
  }

  #plan(after: ReturnType<typeof ms>): void {
    const { clock, log } = this.#options;
    if (this.#closed) return;
    this.#timer = clock.setTimer(addTime(clock.monotonic(), after), () => {
      const begun = clock.monotonic();
      this.#look()
        .catch((error: unknown) => {
          if (!this.#closed) log.warn({ event: "flows.affinity_unread", reason: messageOf(error) });
        })
        .finally(() => this.#plan(ms(Math.max(LOOK_EVERY, timeSince(clock.monotonic(), begun) * SHARE))));
    });
  }

  async #look(): Promise<void> {
    const peers = this.#options.reachable();
    if (peers.length === 0) return;
    for (const service of this.#timeouts.keys())
      for (const { family, table } of FAMILIES) {
        const held = await this.#read(service, table, family === 4 ? 4 : 16);
        if (held.length === 0 || this.#closed) continue;
        const now = this.#options.clock.monotonic();
        for (const peer of peers) {
          const news = this.#store.news(peer, held, this.#timeouts, now, PER_LOOK);
          this.#count.affinityTold += news.length;
          for (let at = 0; at < news.length; at += PER_MESSAGE)
            this.#options.tell(peer, news.slice(at, at + PER_MESSAGE));
        }
      }
  }

  async #read(service: string, family: NftFamily, width: 4 | 16): Promise<AffinityEntry[]> {
    try {
      const place = { family, table: TABLE };
      return entriesOf(service, await this.#nftables.elements(place, affinitySet(service)), width);
    } catch (error) {
      // The service has no address of this family, or the brain has not made the map yet.
      if (error instanceof KernelError && error.errno === 2) return [];
      throw error;
    }
  }
}

/** Services whose clients the nodes tell each other of. */
export function replicatedAffinity(site: Site): Timeouts {
  const found = Object.entries(site.services).flatMap(([name, { on, forward }]) =>
    on !== undefined && forward?.flows === "replicated" && forward.affinity !== undefined
      ? [[name, forward.affinity.timeout] as const]
      : [],
  );
  return new Map(found);
}
