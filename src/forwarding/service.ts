import { OperationalError, messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Clock, type MonotonicMs, timeSince } from "../base/time.ts";
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
import { type Remembered, forgetClients, keepersText, rememberClients } from "./affinity.ts";
import { Counters, counterSamples } from "./counters.ts";
import { type Owed, cutsFor, owedAfter, sameAt } from "./cuts.ts";
import { explainServices } from "./explain.ts";
import { kernelFlows } from "./flow-table.ts";
import { type Ids, type Numbering, allocateIds, numbersOf } from "./ids.ts";
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
import { type Turn, Turns } from "./turns.ts";
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
  /** Kernel settings that forwarding needs; this host's by default. */
  readonly settings?: typeof ensureSettings;
  /** The kernel's memory of clients was lost with its table: what other nodes and the flows process know is wanted. */
  readonly clientsLost?: () => void;
}

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
  #numbers: Numbering = numbersOf(new Map());
  #memory: Memory = NO_MEMORY;
  #known: ReadonlySet<string> = new Set();
  readonly #turns: Turns;
  #problem = "";
  /** A backend is in its slow start. */
  #growing = false;
  #weights: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map();
  #generation = -1;
  /** Connections that have to go and are not gone yet. */
  #owed: Owed = new Map();
  readonly #kept = new Kept();
  readonly #told: ToldClients;
  /** Backends that keep clients, for which the memory of clients is or was gone through; undefined: that failed. */
  #keepers: string | undefined = "";
  #prefixes: readonly LocalPrefix[] | undefined;
  /** Read only where a service is direct. */
  #links: readonly FrameLink[] = [];
  /** Families whose kernel settings were seen to. */
  #set = "";

  private constructor(options: ForwarderOptions, nftables: NftablesService) {
    this.#options = options;
    this.#nftables = nftables;
    this.#flows = options.flows ?? kernelFlows(options.clock);
    this.#turns = new Turns(options.clock, (turn) => this.#work(turn));
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
      forwarder.#numbers = numbersOf(left.serviceIds);
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
    this.#turns.changed();
  }

  /** Settles when everything asked so far is in the kernel, or has failed (see `problem`). */
  settled(): Promise<void> {
    return this.#turns.settled();
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

  async #writeClients(entries: readonly AffinityEntry[]): Promise<void> {
    const known = () => (this.#problem === "" ? this.#input : undefined);
    const writing = rememberClients(this.#nftables, known, entries);
    const count = async ({ written, refused }: Remembered): Promise<void> => {
      this.#events.clientsLearned += written;
      this.#events.clientsRefused += refused;
      if (written > 0) await this.#written();
    };
    // A map that somebody deleted: the check puts it back, and then asks for everything again.
    await this.#turns.steps(writing, count, () => true).catch((error: unknown) => this.#sayClients(error));
  }

  #sayClients(error: unknown): void {
    this.#options.log.warn({ event: "forwarding.clients_refused", reason: messageOf(error) });
  }

  /** What we wrote ourselves is no reason to read all again. */
  async #written(): Promise<void> {
    if (!this.#owned) this.#generation = await this.#nftables.generation();
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
    return this.#numbers.ids;
  }

  /** `remove`: nothing of it stays in the kernel. Otherwise the kernel goes on forwarding. */
  async stop(remove: boolean): Promise<void> {
    this.#told.stop();
    await this.#turns.stop();
    if (remove) {
      const gone = [...this.#installed.values()].map(({ family, name }): NftChange => ({
        place: { family, table: name },
        op: "delete-table",
      }));
      await this.#nftables.apply(gone);
    }
    this.#nftables.close();
  }

  async #work({ changed, check }: Turn): Promise<void> {
    if (!this.#wanted) return;
    try {
      // A refusal is tried again with the next check: another process may still have held the tables.
      if (changed || this.#problem !== "") await this.#converge(this.#wanted);
      if (check) await this.#inspect();
      this.#say("");
    } catch (error) {
      this.#events.refused++;
      this.#say(messageOf(error));
      // What the kernel has is not known any more.
      await this.#readAll().catch(() => undefined);
    }
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
    const moved = movedBackends(this.#input?.site, site);
    const { up, lastHealthy } = this.#memory;
    const remembered = { up: without(up, moved), lastHealthy: without(lastHealthy, moved) };
    const { pools, memory } = decide(site.pools, facts, remembered, without(this.#known, moved));
    if (this.#input?.site !== site) {
      const names = forwarded(site).map(([name]) => name);
      this.#numbers = allocateIds(this.#numbers, names, LAST_SERVICE);
    }
    this.#prefixes ??= this.#readPrefixes();
    const input: TableInput = {
      site,
      node: this.#options.node,
      pools: new Map(pools.map((one) => [one.pool, one])),
      serviceIds: this.#numbers.ids,
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
    if (before?.site !== input.site) this.#known = allKeys(input.pools);
    this.#owed = owedAfter(this.#owed, before, input);
    await this.#cutOwed();
    this.#forget(input);
  }

  /** What fails is tried again at the next check. */
  async #cutOwed(): Promise<void> {
    if (this.#owed.size === 0) return;
    const { log } = this.#options;
    try {
      const count = await this.#flows.cut([...this.#owed.values()].flat());
      this.#owed = new Map();
      this.#events.cut += count;
      log.info({
        event: "forwarding.connections_cut",
        count,
        reason: "UDP clients of backends that went away would stay with them",
      });
    } catch (error) {
      log.warn({ event: "forwarding.cut_refused", reason: messageOf(error) });
    }
  }

  /** Takes clients of backends that may keep none out of the kernel's memory, soon. */
  #forget(input: TableInput): void {
    const keepers = keepersText(input);
    if (keepers === this.#keepers) return;
    this.#keepers = keepers;
    const count = (forgotten: number): void => void (this.#events.clientsForgotten += forgotten);
    this.#turns
      .steps(forgetClients(this.#nftables, input), count, () => this.#keepers === keepers)
      .catch((error: unknown) => {
        if (this.#keepers === keepers) this.#keepers = undefined;
        this.#sayClients(error);
      });
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
    await this.#written();
    return changes.length;
  }

  /** With the first tables of a family; the check looks again (`#set` is empty then). */
  #ensureSettings(tables: readonly NftTable[]): void {
    // What is sent on directly is not routed.
    const routed = tables.filter((one) => one.family !== "netdev");
    const families = new Set<4 | 6>(routed.map((one) => (one.family === "ip" ? 4 : 6)));
    const set = [...families].join(" ");
    if (set === this.#set) return;
    const settings = (this.#options.settings ?? ensureSettings)(families);
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
    await this.#cutOwed();
    if (this.#keepers === undefined) this.#forget(input);
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

const allKeys = (pools: ReadonlyMap<string, PoolDecision>): Set<string> =>
  new Set([...pools.values()].flatMap((pool) => pool.backends.map((one) => backendKey(pool.pool, one.name))));

/** Backends that have another address under the same name: what was known of them was of another. */
function movedBackends(before: Site | undefined, after: Site): string[] {
  if (before === undefined || before === after) return [];
  return Object.entries(after.pools).flatMap(([pool, { backends }]) =>
    Object.entries(backends).flatMap(([name, { at }]) => {
      const old = before.pools[pool]?.backends[name]?.at;
      return old === undefined || sameAt(old, at) ? [] : [backendKey(pool, name)];
    }),
  );
}

function without(all: ReadonlySet<string>, some: readonly string[]): ReadonlySet<string> {
  if (some.length === 0) return all;
  const left = new Set(all);
  for (const one of some) left.delete(one);
  return left;
}
