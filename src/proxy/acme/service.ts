import { readFile } from "node:fs/promises";
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { type Clock, type MonotonicMs, type Timer, addTime, seconds } from "../../base/time.ts";
import type { SecretReference } from "../../config/schema/common.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import {
  accountOf,
  keptOf,
  lostAccountOf,
  pairOf,
  readAccount,
  settingsKey,
  troubleOf,
  withOrigin,
} from "./kept.ts";
import type { Challenge } from "./messages.ts";
import type { Order } from "./orders.ts";
import type { CertificatePeer, CertificatePeers, PeerHost } from "./peers.ts";
import { leftTo, notTaken } from "./policy-peers.ts";
import { dueAt, ofAnother } from "./policy-renewal.ts";
import {
  type CertificateProblem,
  type CertificateWish,
  type Known,
  problemOf,
  samplesOf,
} from "./policy-report.ts";
import { type AcmeStore, accountName, certificateName, troubleName } from "./store.ts";
import { type PeerNews, type PeerState, REASON_CHARACTERS } from "./wire-peers.ts";

export interface CertificateKeeperOptions {
  readonly clock: Clock;
  readonly node: string;
  readonly random: Random;
  readonly store: AcmeStore;
  readonly order: Order;
  readonly secret: (from: SecretReference) => Promise<string>;
  /** What has to be found by the authority just now: all of it, to everybody who listens. */
  readonly publish: (challenges: readonly Challenge[]) => void;
  /** A certificate is new on the disk. */
  readonly changed: (service: string) => void;
  readonly notice: (event: string, fields: Record<string, unknown>) => void;
}

/** Another node, or a person, may put a certificate into the store: it is looked at this often. */
const LOOK_EVERY = seconds(10);
/** What another node's order has the authority find; longer than any order, should that node die meanwhile. */
const CHALLENGES_FOR = seconds(360);

const ACCOUNT_LOST = /account.{0,60}(not exist|not found|deactivated|revoked)|(unknown|no) account/i;

type Wish = Pick<CertificateWish, "service" | "settings">;

/** Orders certificates, keeps them, renews them in time, and shares them with other nodes. One order at a time. */
export class CertificateKeeper implements PeerHost {
  readonly #options: CertificateKeeperOptions;
  readonly #known = new Map<string, Known>();
  readonly #challenges = new Set<Challenge>();
  readonly #theirs = new Map<
    string,
    { challenges: readonly Challenge[]; until: MonotonicMs; sequence: number }
  >();
  #sequence: number;
  #peers: Pick<CertificatePeers, "ask" | "tell" | "upkeep"> | undefined;
  #ordering: string | undefined;
  /** Files are written one after the other. */
  #writing: Promise<unknown> = Promise.resolve();
  #wishes: readonly CertificateWish[] = [];
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #stopped = false;

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
    // Above everything that an earlier process of this node has said.
    this.#sequence = options.clock.wall();
  }

  /** After every site, and whenever an address came or went. */
  update(wishes: readonly CertificateWish[]): void {
    const text = JSON.stringify(wishes);
    const same = text === JSON.stringify(this.#wishes);
    this.#wishes = wishes;
    for (const service of this.#known.keys())
      if (!wishes.some((wish) => wish.service === service)) this.#known.delete(service);
    if (!same || this.#timer === undefined) void this.look();
  }

  /** The other nodes; undefined where nothing is shared. */
  share(peers: Pick<CertificatePeers, "ask" | "tell" | "upkeep"> | undefined): void {
    this.#peers = peers;
    if (peers !== undefined && this.#wishes.length > 0) void this.look();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Compares what is kept with what is wanted, and orders what is due. One look at a time. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#timer?.cancel();
      const { clock } = this.#options;
      if (!this.#stopped && this.#wishes.length > 0)
        this.#timer = clock.setTimer(addTime(clock.monotonic(), LOOK_EVERY), () => void this.look());
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    this.#forget();
    await this.#peers?.upkeep();
    for (const wish of this.#wishes) {
      if (this.#stopped) return;
      const known = this.#of(wish.service);
      try {
        await this.#read(wish, known);
      } catch (error) {
        this.#failed(wish, known, messageOf(error));
        continue;
      }
      if (wish.here && this.#due(wish, known) && !(await this.#leave(wish.service)) && this.#due(wish, known))
        await this.#order(wish, known);
    }
  }
  #due({ settings }: CertificateWish, { kept, trouble, chance }: Known): boolean {
    const { clock, node } = this.#options;
    return dueAt({ ...settings, node }, kept, trouble, chance) <= clock.wall();
  }

  /** Whether another node orders it. Asking brings what that node has. */
  async #leave(service: string): Promise<boolean> {
    const { node } = this.#options;
    const answers = await this.#peers?.ask();
    return answers !== undefined && leftTo(service, node, answers) !== undefined;
  }

  #of(service: string): Known {
    let known = this.#known.get(service);
    if (known === undefined) {
      const chance = this.#options.random.next();
      const counts = { orders: 0, failed: 0, received: 0 };
      known = { kept: undefined, text: undefined, trouble: undefined, chance, ...counts };
      this.#known.set(service, known);
    }
    return known;
  }

  async #read({ service, settings }: Wish, known: Known): Promise<void> {
    const { store, changed } = this.#options;
    const first = known.text === undefined && known.trouble === undefined;
    if (first) known.trouble = troubleOf(await store.read(troubleName(service)));
    if (known.trouble?.of !== undefined && known.trouble.of !== settingsKey(settings))
      known.trouble = undefined;
    const text = await store.read(certificateName(service));
    if (text === known.text) return;
    known.text = text;
    const kept = text === undefined ? undefined : keptOf(text);
    // One that does not say where it is from is that of the directory that it is first seen with.
    known.kept = kept && { ...kept, directory: kept.directory ?? settings.directory };
    if (text !== undefined) changed(service);
  }

  async #order(wish: CertificateWish, known: Known): Promise<void> {
    const { store, order, notice, secret, clock } = this.#options;
    const { service, settings } = wish;
    const { directory, names, challenge, email } = settings;
    const why =
      known.kept === undefined
        ? "there is none yet"
        : ofAnother(known.kept, settings)
          ? `the one that is here is of ${known.kept.directory}`
          : "it is to be renewed, or its names changed";
    notice("acme.ordering", { service, names, directory, reason: why });
    known.orders++;
    this.#ordering = service;
    try {
      const account = accountOf(await readAccount(store, directory));
      const { externalAccount, authorities } = settings;
      const pem = await order(
        {
          directory,
          names,
          challenge,
          email,
          ...(externalAccount === undefined
            ? {}
            : { externalAccount: { id: externalAccount.id, key: await secret(externalAccount.key) } }),
          ...(authorities === undefined ? {} : { authorities: await readAuthorities(authorities) }),
          ...(account === undefined ? {} : { account: { key: account.key, url: account.url } }),
        },
        {
          publish: (one) => this.#publish(() => this.#challenges.add(one)),
          withdraw: (one) => void this.#publish(() => this.#challenges.delete(one)),
          account: async (made) => {
            const text = JSON.stringify({ ...made, made: clock.wall() });
            await this.#serially(() => store.write(accountName(directory), text));
            void this.#peers?.tell(true);
          },
        },
      );
      const kept = keptOf(pem);
      if (kept === undefined) throw new OperationalError("MESSAGE_INVALID", "what came is no certificate");
      // Later than the one before, even where another node's clock is ahead.
      const ordered = Math.max(clock.wall(), (known.kept?.ordered ?? 0) + 1);
      await this.#serially(() => this.#keep(wish, known, withOrigin(pem, { directory, ordered })));
      const until = new Date(kept.notAfter).toISOString();
      notice("acme.ordered", { service, names, until, reason: "the authority signed it" });
      void this.#peers?.tell(true);
    } catch (error) {
      if (this.#stopped) return;
      known.failed++;
      const failures = (known.trouble?.failures ?? 0) + 1;
      this.#failed(wish, known, messageOf(error), failures);
      await this.#serially(() => this.#keepTrouble(service, known)).catch(() => undefined);
      // An authority that does not know the account (any more) gets a new one the next time.
      if (ACCOUNT_LOST.test(messageOf(error))) await this.#lose(directory).catch(() => undefined);
      // The account is one: they wait as long.
      void this.#peers?.tell(true);
    } finally {
      this.#ordering = undefined;
    }
  }
  async #keep(wish: Wish, known: Known, text: string): Promise<void> {
    const { service } = wish;
    await this.#options.store.write(certificateName(service), text);
    known.trouble = undefined;
    await this.#keepTrouble(service, known);
    await this.#read(wish, known);
  }
  async #keepTrouble(service: string, { trouble }: Known): Promise<void> {
    await this.#options.store.write(troubleName(service), JSON.stringify(trouble ?? {}));
  }
  async #lose(directory: string): Promise<void> {
    const { store } = this.#options;
    const lost = accountOf(await readAccount(store, directory))?.url;
    await this.#serially(() => store.write(accountName(directory), JSON.stringify({ lost })));
  }
  #serially<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#writing.then(task);
    this.#writing = done.catch(() => undefined);
    return done;
  }

  #failed(
    { service, settings }: Wish,
    known: Known,
    reason: string,
    failures = known.trouble?.failures ?? 0,
  ): void {
    const { clock, node, notice } = this.#options;
    if (failures > 0 || known.trouble?.reason !== reason)
      notice("acme.failed", { service, reason, failures });
    known.trouble = { failures, at: clock.wall(), reason, of: settingsKey(settings), node };
  }

  /** To the own workers at once; settles when the other nodes have heard it, too, or do not answer. */
  async #publish(change: () => void): Promise<void> {
    change();
    this.#show();
    await this.#peers?.tell(false);
  }
  #show(): void {
    const theirs = [...this.#theirs.values()].flatMap(({ challenges }) => challenges);
    this.#options.publish([...this.#challenges, ...theirs]);
  }
  #forget(): void {
    const now = this.#options.clock.monotonic();
    const over = [...this.#theirs].filter(([, { until }]) => until <= now);
    for (const [node] of over) this.#theirs.delete(node);
    if (over.length > 0) this.#show();
  }

  // The other nodes --------------------------------------------------------------------------------------

  async state(services: readonly string[], keys: boolean): Promise<PeerNews> {
    const { store, node } = this.#options;
    const wishes = this.#wishes.filter(({ service }) => services.includes(service));
    const certificates: Record<string, string> = {};
    const accounts: PeerNews["accounts"] = {};
    const troubles: PeerNews["troubles"] = {};
    for (const { service, settings } of keys ? wishes : []) {
      const pem = await store.read(certificateName(service));
      if (pem !== undefined && pairOf(pem) !== undefined) certificates[service] = pem;
      const account = accountOf(await readAccount(store, settings.directory));
      if (account !== undefined) accounts[settings.directory] = account;
    }
    for (const { service } of wishes) {
      const { trouble } = this.#of(service);
      if (trouble?.of === undefined || trouble.failures === 0) continue;
      const { failures, at, of } = trouble;
      const reason = trouble.reason.slice(0, REASON_CHARACTERS);
      troubles[service] = { failures, at, reason, of, node: trouble.node ?? node };
    }
    // Who has failed leaves it to whoever comes next, and takes it up again when it is due.
    const failed = (service: string): boolean => {
      const { trouble } = this.#of(service);
      return trouble !== undefined && trouble.failures > 0 && (trouble.node ?? node) === node;
    };
    const claims = wishes.filter(({ here, service }) => here && !failed(service));
    return {
      node,
      sequence: ++this.#sequence,
      certificates,
      accounts,
      troubles,
      challenges: [...this.#challenges],
      claims: claims.map(({ service }) => service),
      ordering: wishes.flatMap(({ service }) => (service === this.#ordering ? [service] : [])),
    };
  }

  /** Takes what is newer; throws OperationalError where it cannot be written. */
  accept(from: CertificatePeer, state: PeerState): Promise<void> {
    return this.#serially(async () => {
      if (this.#stopped) return;
      const wishes = this.#wishes.filter(({ service }) => from.services.includes(service));
      this.#takeChallenges(from.node, state, new Set(wishes.flatMap(({ settings }) => settings.names)));
      for (const wish of wishes) {
        const { service, settings } = wish;
        const pem = state.certificates[service];
        if (pem !== undefined) await this.#take(from.node, wish, pem);
        const trouble = state.troubles[service];
        if (trouble !== undefined) await this.#takeTrouble(wish, trouble);
        const account = state.accounts[settings.directory];
        if (account !== undefined) await this.#takeAccount(settings.directory, account);
      }
    });
  }
  #takeChallenges(from: string, { challenges, sequence }: PeerState, names: ReadonlySet<string>): void {
    const { clock } = this.#options;
    const before = this.#theirs.get(from);
    if (before !== undefined && before.sequence >= sequence) return;
    const taken = challenges.filter((one) => one.kind === "http-01" || names.has(one.name.toLowerCase()));
    const until = addTime(clock.monotonic(), CHALLENGES_FOR);
    this.#theirs.set(from, { challenges: taken, until, sequence });
    if (taken.length > 0 || (before?.challenges.length ?? 0) > 0) this.#show();
  }
  async #take(from: string, wish: Wish, text: string): Promise<void> {
    const { clock, notice } = this.#options;
    const { service, settings } = wish;
    const known = this.#of(service);
    await this.#read(wish, known);
    const offered = pairOf(text);
    const why = offered === undefined ? "broken" : notTaken(offered, known.kept, settings, clock.wall());
    if (offered === undefined || why === "broken") {
      notice("acme.refused", { service, from, reason: "it is no certificate with its key" });
    } else if (why === undefined) {
      await this.#keep(wish, known, text);
      known.received++;
      const until = new Date(offered.notAfter).toISOString();
      notice("acme.received", { service, from, until, reason: "newer than what was here" });
    }
  }
  async #takeTrouble(wish: Wish, offered: PeerNews["troubles"][string]): Promise<void> {
    if (offered.of !== settingsKey(wish.settings)) return;
    const known = this.#of(wish.service);
    await this.#read(wish, known);
    // What comes late, of before the certificate that is here, is over.
    if (offered.at <= (known.kept?.ordered ?? 0) || offered.failures <= (known.trouble?.failures ?? 0))
      return;
    // A clock that is ahead adds no time to wait.
    known.trouble = { ...offered, at: Math.min(offered.at, this.#options.clock.wall()) };
    await this.#keepTrouble(wish.service, known);
  }
  async #takeAccount(directory: string, offered: PeerState["accounts"][string]): Promise<void> {
    const { store } = this.#options;
    const text = await readAccount(store, directory);
    const own = accountOf(text);
    if (offered.url === lostAccountOf(text) || (own !== undefined && own.made >= offered.made)) return;
    await store.write(accountName(directory), JSON.stringify(offered));
  }

  problems(): CertificateProblem[] {
    const now = this.#options.clock.wall();
    return this.#wishes.flatMap(
      (wish) => problemOf(wish, this.#of(wish.service), now, this.#peers !== undefined) ?? [],
    );
  }
  samples(): MetricSample[] {
    return this.#wishes.flatMap(({ service }) => samplesOf(service, this.#of(service)));
  }
}

async function readAuthorities(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new OperationalError("FILE_UNREADABLE", `acme.authorities ${file}: ${messageOf(error)}`);
  }
}
