import { OperationalError, messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Clock, type MonotonicMs, type Timer, addTime, ms, timeSince } from "../base/time.ts";
import type {
  BackendStatus,
  ForwardedCounters,
  ForwardedService,
  LocalPrefix,
} from "../contracts/forwarding.ts";
import type { MetricSample } from "../contracts/metrics.ts";
import type { Site } from "../contracts/site.ts";
import { type NftChange, diffTables } from "../linux/nftables/diff.ts";
import type { NftFamily, NftTable } from "../linux/nftables/model.ts";
import { NftablesService, probePersist } from "../linux/nftables/service.ts";
import type { AffinityEntry } from "../contracts/affinity.ts";
import { forgetClients, keepersText, rememberClients } from "./affinity.ts";
import { Counters, counterSamples } from "./counters.ts";
import { cutsAfter, cutsFor } from "./cuts.ts";
import { explainServices } from "./explain.ts";
import { kernelFlows } from "./flow-table.ts";
import { type Ids, allocateIds } from "./ids.ts";
import { localPrefixes } from "./links.ts";
import { type Memory, NO_MEMORY, type PoolDecision, backendKey, decide } from "./machine.ts";
import { factsOf, leastWeights, needsCounts, sameWeights } from "./policy-weights.ts";
import { LAST_SERVICE } from "./marks.ts";
import type { FrameLink } from "./policy-direct.ts";
import { TABLE, TABLES, type TableInput, buildTables, forwarded, isDirect } from "./policy.ts";
import type { FlowTable } from "./ports.ts";
import { affinitySet } from "./policy-affinity.ts";
import { Kept } from "./policy-kept.ts";
import { recover } from "./recover.ts";
import { ensureSettings } from "./settings.ts";
import { ToldClients } from "./told.ts";
import { Rtnetlink } from "../linux/rtnetlink.ts";

export interface ForwarderOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly node: string;
  /** The kernel's connection table by default. */
  readonly flows?: FlowTable;
  /** false: tables that others may change too, as on kernels before 6.9. */
  readonly ownTables?: boolean;
  /** Networks of this host; read from it by default. */
  readonly prefixes?: () => readonly LocalPrefix[];
  /** The kernel's memory of clients was lost with its table: what other nodes and the flows process know is wanted. */
  readonly clientsLost?: () => void;
}

/** Changes within this time go to the kernel in one transaction. */
const TICK = ms(5);
/** How often the kernel is compared with what should be. */
const CHECK = ms(500);

interface Wanted {
  readonly site: Site;
  readonly statuses: readonly BackendStatus[];
  /** When the statuses were told; their `since` counts from here. */
  readonly at: MonotonicMs;
}

/**
 * Layer 4: keeps the kernel's tables as the site and the backends' states want them. The kernel forwards on
 * its own: it goes on when this process stops, and the next one adopts the tables and sends differences.
 */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #nftables: NftablesService;
  readonly #flows: FlowTable;
  readonly #counters = new Counters();
  readonly #events = {
    transactions: 0,
    changes: 0,
    repairs: 0,
    refused: 0,
    settings: 0,
    cut: 0,
    clientsForgotten: 0,
    clientsLearned: 0,
    clientsRefused: 0,
  };
  #owned = false;
  #wanted: Wanted | undefined;
  #installed = new Map<NftFamily, NftTable>();
  #input: TableInput | undefined;
  #serviceIds: Ids = new Map();
  #memory: Memory = NO_MEMORY;
  #known: ReadonlySet<string> = new Set();
  #tick: Timer | undefined;
  #check: Timer | undefined;
  #running: Promise<void> = Promise.resolve();
  #problem = "";
  /** A backend is in its slow start. */
  #growing = false;
  #weights: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map();
  #stopped = false;
  #generation = -1;
  readonly #kept = new Kept();
  readonly #told: ToldClients;
  /** Backends that keep clients, as of the last time the memory of clients was gone through. */
  #keepers = "";
  #prefixes: readonly LocalPrefix[] | undefined;
  /** Read only where a service is direct. */
  #links: readonly FrameLink[] = [];
  /** Families whose kernel settings were seen to. */
  #set = "";

  private constructor(options: ForwarderOptions, nftables: NftablesService) {
    this.#options = options;
    this.#nftables = nftables;
    this.#flows = options.flows ?? kernelFlows(options.clock);
    this.#told = new ToldClients(options.clock, (entries) => this.#writeClients(entries));
  }

  /** Reads what an earlier process left in the kernel and changes nothing. Throws where it has no access. */
  static async open(options: ForwarderOptions): Promise<Forwarder> {
    const nftables = NftablesService.open(options.clock);
    try {
      const forwarder = new Forwarder(options, nftables);
      forwarder.#owned = options.ownTables !== false && (await probePersist(nftables));
      await forwarder.#readAll();
      const left = recover([...forwarder.#installed.values()]);
      forwarder.#serviceIds = left.serviceIds;
      forwarder.#memory = { up: left.taking, lastHealthy: left.taking };
      forwarder.#known = left.known;
      if (forwarder.#installed.size > 0)
        options.log.info({
          event: "forwarding.adopted",
          services: left.serviceIds.size,
          backends: left.taking.size,
          reason: "an earlier process left its tables in the kernel",
        });
      return forwarder;
    } catch (error) {
      nftables.close();
      throw error;
    }
  }

  /** What shall be forwarded, and how its backends are. Reaches the kernel within a few milliseconds. */
  apply(site: Site, backends: readonly BackendStatus[]): void {
    this.#wanted = { site, statuses: backends, at: this.#options.clock.monotonic() };
    this.#schedule();
  }

  /** Settles when everything asked so far is in the kernel, or has failed (see `problem`). */
  async settled(): Promise<void> {
    if (this.#tick) {
      this.#tick.cancel();
      this.#run("asked");
    }
    await this.#running;
  }

  /** Empty where the kernel has what it should have; otherwise why not. */
  problem(): string {
    return this.#problem;
  }

  /** Deletes all connections of a backend: clients get a reset, or meet another backend. Answers how many. */
  async kill(pool: string, backend: string): Promise<number> {
    const input = this.#input;
    if (!input?.site.pools[pool]?.backends[backend])
      throw new OperationalError("NOT_FOUND", `the site has no backend ${pool}/${backend}`);
    const count = await this.#flows.cut(cutsFor(input, pool, backend, ["tcp", "udp"]));
    this.#events.cut += count;
    this.#options.log.info({
      event: "forwarding.connections_cut",
      pool,
      backend,
      count,
      reason: "an operator asked",
    });
    return count;
  }

  /** Clients and their backends, as another node knows them. They reach the kernel soon. */
  remember(entries: readonly AffinityEntry[]): void {
    this.#told.add(entries);
  }

  #writeClients(entries: readonly AffinityEntry[]): Promise<void> {
    this.#running = this.#running.then(async () => {
      if (this.#stopped || this.#input === undefined || this.#problem !== "") return;
      try {
        const { written, refused } = await rememberClients(this.#nftables, this.#input, entries);
        this.#events.clientsLearned += written;
        this.#events.clientsRefused += refused;
        if (!this.#owned && written > 0) this.#generation = await this.#nftables.generation();
      } catch (error) {
        // A map that somebody deleted: the check puts it back, and then asks for everything again.
        this.#options.log.warn({ event: "forwarding.clients_refused", reason: messageOf(error) });
      }
    });
    return this.#running;
  }

  /** Why each service forwards as it does. */
  explain(): ForwardedService[] {
    return this.#input ? explainServices(this.#input) : [];
  }

  /** Connections, packets and bytes per service and backend, read from the kernel. */
  async traffic(): Promise<ForwardedCounters[]> {
    if (!this.#input) return [];
    await this.#counters.collect(this.#nftables, this.#installed, this.#input);
    return this.#counters.list();
  }

  /** What happened since the start, by kind. */
  counters(): Readonly<Record<string, number>> {
    return { ...this.#events };
  }

  async metrics(): Promise<readonly MetricSample[]> {
    return counterSamples(await this.traffic());
  }

  /** The bits of connection marks that stand for a service, by its name: flows are told apart by them. */
  serviceIds(): Ids {
    return this.#serviceIds;
  }

  /** `remove`: nothing of it stays in the kernel. Otherwise the kernel goes on forwarding. */
  async stop(remove: boolean): Promise<void> {
    this.#stopped = true;
    this.#told.stop();
    this.#tick?.cancel();
    this.#check?.cancel();
    await this.#running;
    if (remove) {
      const gone = [...this.#installed.values()].map(({ family, name }): NftChange => ({
        place: { family, table: name },
        op: "delete-table",
      }));
      await this.#nftables.apply(gone);
    }
    this.#nftables.close();
  }

  #schedule(): void {
    if (this.#tick || this.#stopped) return;
    const { clock } = this.#options;
    this.#tick = clock.setTimer(addTime(clock.monotonic(), TICK), () => this.#run("changed"));
  }

  /** One at a time: what comes meanwhile is seen by the next. */
  #run(why: "changed" | "asked" | "check"): void {
    this.#tick?.cancel();
    this.#tick = undefined;
    this.#running = this.#running.then(async () => {
      if (this.#stopped || !this.#wanted) return;
      try {
        if (why === "check") await this.#inspect();
        else await this.#converge(this.#wanted);
        this.#say("");
      } catch (error) {
        this.#events.refused++;
        this.#say(messageOf(error));
        // What the kernel has is not known any more.
        await this.#readAll().catch(() => undefined);
      }
      this.#plan();
    });
  }

  #plan(): void {
    this.#check?.cancel();
    if (this.#stopped) return;
    const { clock } = this.#options;
    this.#check = clock.setTimer(addTime(clock.monotonic(), CHECK), () => {
      this.#check = undefined;
      // A refusal is tried again with the next check: another process may still have held the tables.
      this.#run(this.#problem === "" ? "check" : "changed");
    });
  }

  #say(problem: string): void {
    if (problem === this.#problem) return;
    const { log } = this.#options;
    if (problem === "") {
      log.info({ event: "forwarding.recovered", reason: "the kernel accepted the tables" });
      this.#options.clientsLost?.();
    } else log.error({ event: "forwarding.refused", reason: problem });
    this.#problem = problem;
  }

  async #readAll(): Promise<void> {
    const found = new Map<NftFamily, NftTable>();
    for (const family of TABLES) {
      const read = await this.#nftables.read(family, TABLE);
      if (read) found.set(family, read);
    }
    this.#installed = found;
  }

  #decide({ site, statuses, at }: Wanted): { input: TableInput; memory: Memory } {
    const now = this.#options.clock.monotonic();
    const { facts, growing } = factsOf(site, statuses, timeSince(now, at));
    this.#growing = growing;
    const { pools, memory } = decide(site.pools, facts, this.#memory, this.#known);
    if (this.#input?.site !== site) {
      const names = forwarded(site).map(([name]) => name);
      this.#serviceIds = allocateIds(this.#serviceIds, names, LAST_SERVICE);
    }
    this.#prefixes ??= this.#readPrefixes();
    const input: TableInput = {
      site,
      node: this.#options.node,
      pools: new Map(pools.map((one) => [one.pool, one])),
      serviceIds: this.#serviceIds,
      prefixes: this.#prefixes,
      links: this.#links,
      weights: this.#weights,
      owned: this.#owned,
    };
    return { input, memory };
  }

  async #converge(wanted: Wanted): Promise<void> {
    if (this.#links.length === 0) this.#links = await this.#readLinks(wanted.site);
    const { input, memory } = this.#decide(wanted);
    await this.#install(input);
    const before = this.#input;
    this.#input = input;
    this.#memory = memory;
    if (before?.site !== input.site) this.#known = new Set([...this.#known, ...allKeys(input.pools)]);
    const { log } = this.#options;
    const keepers = keepersText(input);
    if (keepers !== this.#keepers) {
      this.#events.clientsForgotten += await forgetClients(this.#nftables, input);
      this.#keepers = keepers;
    }
    const cuts = cutsAfter(before, input);
    if (cuts.length > 0) {
      const count = await this.#flows.cut(cuts);
      this.#events.cut += count;
      log.info({
        event: "forwarding.connections_cut",
        count,
        reason: "UDP clients of backends that went away would stay with them",
      });
    }
  }

  /** Sends what differs between the kernel and the input, in one transaction. */
  async #install(input: TableInput): Promise<number> {
    const tables = buildTables(input, this.#kept);
    const changes: NftChange[] = [];
    for (const family of TABLES) {
      const desired = tables.find((one) => one.family === family);
      const current = this.#installed.get(family);
      if (desired) changes.push(...diffTables(current, desired));
      else if (current) changes.push({ place: { family, table: TABLE }, op: "delete-table" });
    }
    if (changes.some((one) => one.op === "delete-elements" && one.set.counter) && this.#input)
      await this.#counters.collect(this.#nftables, this.#installed, this.#input);
    await this.#nftables.apply(changes);
    const lost = changes.some((one) => one.op === "add-set" && one.set.name.startsWith(affinitySet("")));
    if (changes.length > 0) {
      this.#events.transactions++;
      this.#events.changes += changes.length;
      await this.#remember(tables, changes);
    }
    if (lost || this.#input === undefined) this.#options.clientsLost?.();
    this.#ensureSettings(tables);
    if (!this.#owned) this.#generation = await this.#nftables.generation();
    return changes.length;
  }

  /** With the first tables of a family; the check looks again (`#set` is empty then). */
  #ensureSettings(tables: readonly NftTable[]): void {
    // What is sent on directly is not routed.
    const routed = tables.filter((one) => one.family !== "netdev");
    const families = new Set<4 | 6>(routed.map((one) => (one.family === "ip" ? 4 : 6)));
    const set = [...families].join(" ");
    if (set === this.#set) return;
    const settings = ensureSettings(families);
    this.#set = set;
    if (settings.length === 0) return;
    this.#events.settings += settings.length;
    this.#options.log.info({
      event: "forwarding.settings_changed",
      settings,
      reason: "packets are not forwarded without",
    });
  }

  #readPrefixes(): readonly LocalPrefix[] {
    return (this.#options.prefixes ?? localPrefixes)();
  }

  async #readLinks(site: Site): Promise<readonly FrameLink[]> {
    if (!forwarded(site).some(([, service]) => isDirect(service))) return [];
    const rtnetlink = Rtnetlink.open(this.#options.clock);
    try {
      const links = await rtnetlink.links();
      return links.map(({ name, index, parent }) => ({ name, index, parent }));
    } finally {
      rtnetlink.close();
    }
  }

  /** Rules get handles from the kernel; elements are as they were sent. */
  async #remember(tables: readonly NftTable[], changes: readonly NftChange[]): Promise<void> {
    for (const family of TABLES) {
      const desired = tables.find((one) => one.family === family);
      if (!desired) {
        this.#installed.delete(family);
        continue;
      }
      const rules = changes.some(
        (one) => one.place.family === family && one.op !== "add-elements" && one.op !== "delete-elements",
      );
      const chains = rules
        ? (await this.#nftables.read(family, TABLE, false))?.chains
        : this.#installed.get(family)?.chains;
      this.#installed.set(family, { ...desired, chains: chains ?? [] });
    }
  }

  /** Repairs what somebody else changed: tables, settings, our own networks. */
  async #inspect(): Promise<void> {
    if (!this.#input || !this.#wanted) return;
    const prefixes = this.#readPrefixes();
    const links = await this.#readLinks(this.#wanted.site);
    const relinked = JSON.stringify(links) !== JSON.stringify(this.#links);
    const moved = relinked || JSON.stringify(prefixes) !== JSON.stringify(this.#prefixes);
    if (moved) this.#prefixes = prefixes;
    if (relinked) {
      this.#links = links;
      // A link that goes takes its place in a chain with it.
      await this.#readAll();
    }
    this.#set = "";
    if ((await this.#weigh(this.#input)) || this.#growing || moved) await this.#converge(this.#wanted);
    const input = this.#input;
    if (await this.#untouched()) {
      await this.#install(input);
      return;
    }
    await this.#readAll();
    const changed = await this.#install(input);
    if (changed === 0) return;
    this.#events.repairs++;
    this.#options.log.warn({
      event: "forwarding.repaired",
      changes: changed,
      reason: "somebody else changed the tables",
    });
  }

  /** Least connections: new weights from the connections that each backend has. Answers whether they changed. */
  async #weigh(input: TableInput): Promise<boolean> {
    if (!needsCounts(input)) return false;
    const weights = leastWeights(input, await this.#flows.count());
    const changed = !sameWeights(weights, this.#weights);
    if (changed) this.#weights = weights;
    return changed;
  }

  /**
   * A table that is there and ours cannot have been changed by others. Without owners, any transaction of
   * anybody may have touched it: then all is read and compared.
   */
  async #untouched(): Promise<boolean> {
    if (!this.#owned) return (await this.#nftables.generation()) === this.#generation;
    for (const family of this.#installed.keys()) {
      const info = await this.#nftables.tableInfo({ family, table: TABLE });
      if (!info || info.ownedBy !== this.#nftables.port || info.dormant) return false;
    }
    return true;
  }
}

const allKeys = (pools: ReadonlyMap<string, PoolDecision>): string[] =>
  [...pools.values()].flatMap((pool) => pool.backends.map((one) => backendKey(pool.pool, one.name)));
