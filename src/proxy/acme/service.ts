import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { type Clock, type Timer, addTime, seconds } from "../../base/time.ts";
import type { SecretReference } from "../../config/schema/common.ts";
import type { AcmeSettings } from "../../config/schema/tls.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Account, Challenge } from "./messages.ts";
import type { Order } from "./orders.ts";
import { type Kept, type Trouble, dueAt } from "./policy-renewal.ts";
import { type AcmeStore, accountName, certificateName, troubleName } from "./store.ts";

/** A certificate that a service wants. */
export interface CertificateWish {
  readonly service: string;
  readonly settings: AcmeSettings;
  /** Whether the authority would find this node: the service's address is here. */
  readonly here: boolean;
}

export interface CertificateKeeperOptions {
  readonly clock: Clock;
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

interface Known {
  kept: Kept | undefined;
  /** What the file held when it was read last. */
  text: string | undefined;
  trouble: Trouble | undefined;
  /** Drawn once, so that the day does not move with every look. */
  readonly chance: number;
  orders: number;
  failed: number;
}

/** Another node, or a person, may put a certificate into the store: it is looked at this often. */
const LOOK_EVERY = seconds(10);
/** A certificate that ends within this while orders fail is an alarm. */
const ALARM_WITHIN = 14 * 86_400_000;

const ACCOUNT_LOST = /account.{0,60}(not exist|not found|deactivated|revoked)|(unknown|no) account/i;

/** Orders certificates, keeps them, and renews them in time. One order at a time. */
export class CertificateKeeper {
  readonly #options: CertificateKeeperOptions;
  readonly #known = new Map<string, Known>();
  readonly #challenges = new Set<Challenge>();
  #wishes: readonly CertificateWish[] = [];
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #stopped = false;

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
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
    for (const wish of this.#wishes) {
      if (this.#stopped) return;
      const known = this.#of(wish.service);
      try {
        await this.#read(wish.service, known);
      } catch (error) {
        this.#failed(wish.service, known, messageOf(error));
        continue;
      }
      if (!wish.here) continue;
      const due = dueAt(wish.settings.names, known.kept, known.trouble, known.chance);
      if (due <= this.#options.clock.wall()) await this.#order(wish, known);
    }
  }

  #of(service: string): Known {
    let known = this.#known.get(service);
    if (known === undefined) {
      const chance = this.#options.random.next();
      known = { kept: undefined, text: undefined, trouble: undefined, chance, orders: 0, failed: 0 };
      this.#known.set(service, known);
    }
    return known;
  }

  async #read(service: string, known: Known): Promise<void> {
    const { store, changed } = this.#options;
    const first = known.text === undefined && known.trouble === undefined;
    if (first) known.trouble = troubleOf(await store.read(troubleName(service)));
    const text = await store.read(certificateName(service));
    if (text === known.text) return;
    known.text = text;
    known.kept = text === undefined ? undefined : keptOf(text);
    if (text !== undefined) changed(service);
  }

  async #order({ service, settings }: CertificateWish, known: Known): Promise<void> {
    const { store, order, notice, secret } = this.#options;
    const { directory, names, challenge, email } = settings;
    const why = known.kept === undefined ? "there is none yet" : "it is to be renewed, or its names changed";
    notice("acme.ordering", { service, names, directory, reason: why });
    known.orders++;
    try {
      const account = accountOf(await store.read(accountName(directory)));
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
          ...(account === undefined ? {} : { account }),
        },
        {
          publish: (one) => this.#publish(() => this.#challenges.add(one)),
          withdraw: (one) => this.#publish(() => this.#challenges.delete(one)),
          account: (made) => store.write(accountName(directory), JSON.stringify(made)),
        },
      );
      const kept = keptOf(pem);
      if (kept === undefined) throw new OperationalError("MESSAGE_INVALID", "what came is no certificate");
      await store.write(certificateName(service), pem);
      known.trouble = undefined;
      await store.write(troubleName(service), "{}");
      await this.#read(service, known);
      const until = new Date(kept.notAfter).toISOString();
      notice("acme.ordered", { service, names, until, reason: "the authority signed it" });
    } catch (error) {
      if (this.#stopped) return;
      known.failed++;
      const failures = (known.trouble?.failures ?? 0) + 1;
      this.#failed(service, known, messageOf(error), failures);
      await store.write(troubleName(service), JSON.stringify(known.trouble)).catch(() => undefined);
      // An authority that does not know the account (any more) gets a new one the next time.
      if (ACCOUNT_LOST.test(messageOf(error)))
        await store.write(accountName(directory), "{}").catch(() => undefined);
    }
  }

  #failed(service: string, known: Known, reason: string, failures = known.trouble?.failures ?? 0): void {
    const { clock, notice } = this.#options;
    if (failures > 0 || known.trouble?.reason !== reason)
      notice("acme.failed", { service, reason, failures });
    known.trouble = { failures, at: clock.wall(), reason };
  }

  #publish(change: () => void): void {
    change();
    this.#options.publish([...this.#challenges]);
  }

  /** What an operator must know: a certificate that is missing or ends soon while it cannot be ordered. */
  problems(): { readonly service: string; readonly reason: string; readonly critical: boolean }[] {
    const now = this.#options.clock.wall();
    return this.#wishes.flatMap(({ service, here, settings }) => {
      const { kept, trouble } = this.#of(service);
      const left = kept === undefined ? 0 : kept.notAfter - now;
      const name = settings.names[0];
      const state =
        kept === undefined
          ? `there is no certificate for ${name}`
          : left <= 0
            ? `the certificate for ${name} has ended`
            : `the certificate for ${name} ends in ${Math.ceil(left / 86_400_000)} days`;
      if (trouble !== undefined && (trouble.failures > 0 || trouble.reason !== "") && left < ALARM_WITHIN)
        return [{ service, critical: left <= 0, reason: `${state}: ${trouble.reason}` }];
      if (!here && left <= 0)
        return [
          {
            service,
            critical: false,
            reason: `${state}, and the authority would not find this node: it is ordered when the address comes, or put it into the store`,
          },
        ];
      return [];
    });
  }

  samples(): MetricSample[] {
    return this.#wishes.flatMap(({ service }): MetricSample[] => {
      const { kept, trouble, orders, failed } = this.#of(service);
      const labels = { service };
      return [
        {
          name: "nines_proxy_certificate_expiry_seconds",
          help: "When an ordered certificate ends, in seconds since 1970; 0 while there is none.",
          kind: "gauge",
          labels,
          value: kept === undefined ? 0 : kept.notAfter / 1000,
        },
        {
          name: "nines_proxy_certificate_failures",
          help: "Orders that failed since the last good one; the alarm has the last reason.",
          kind: "gauge",
          labels,
          value: trouble?.failures ?? 0,
        },
        ...(["ordered", "failed"] as const).map((result): MetricSample => ({
          name: "nines_proxy_certificate_orders_total",
          help: "Certificates ordered, by result.",
          kind: "counter",
          labels: { ...labels, result },
          value: result === "failed" ? failed : orders - failed,
        })),
      ];
    });
  }
}

function keptOf(pem: string): Kept | undefined {
  try {
    const at = pem.indexOf("-----BEGIN CERTIFICATE-----");
    const parsed = new X509Certificate(pem.slice(at));
    const names = (parsed.subjectAltName ?? "")
      .split(", ")
      .flatMap((one) => (one.startsWith("DNS:") ? [one.slice(4).toLowerCase()] : []));
    return { notBefore: Date.parse(parsed.validFrom), notAfter: Date.parse(parsed.validTo), names };
  } catch {
    return undefined;
  }
}

const parsed = (text: string | undefined): Record<string, unknown> => {
  try {
    return JSON.parse(text ?? "{}") as Record<string, unknown>;
  } catch {
    // Written by nobody that we know: as if it were not there.
    return {};
  }
};

function troubleOf(text: string | undefined): Trouble | undefined {
  const { failures, at, reason } = parsed(text);
  if (typeof failures !== "number" || typeof at !== "number" || typeof reason !== "string") return undefined;
  return { failures, at, reason };
}

function accountOf(text: string | undefined): Account | undefined {
  const { key, url } = parsed(text);
  return typeof key === "string" && typeof url === "string" ? { key, url } : undefined;
}

async function readAuthorities(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new OperationalError("FILE_UNREADABLE", `acme.authorities ${file}: ${messageOf(error)}`);
  }
}
