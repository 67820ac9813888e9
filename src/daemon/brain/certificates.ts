import { join } from "node:path";
import { messageOf } from "../../base/errors.ts";
import { systemRandom } from "../../base/random.ts";
import { readSecret } from "../../config/secrets.ts";
import { readSiteKeys } from "../../config/site-keys.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Site } from "../../contracts/site.ts";
import type { Challenge } from "../../proxy/acme/messages.ts";
import { OrderProcesses } from "../../proxy/acme/orders.ts";
import { type CertificatePeer, CertificatePeers } from "../../proxy/acme/peers.ts";
import { CertificateKeeper } from "../../proxy/acme/service.ts";
import { DirectoryStore } from "../../proxy/acme/store.ts";
import type { ChildContext } from "../child.ts";
import { proxyServices } from "../proxy-services.ts";
import type { Facts } from "./policy.ts";

/** Where a node keeps what it ordered; the proxy workers read it there. */
export const certificateStore = (state: string): string => join(state, "acme");

/** Services of a node whose certificate is ordered. */
const ordered = (site: Site, node: string): string[] =>
  Object.entries(proxyServices(site, node)).flatMap(([service, { proxy }]) =>
    proxy.tls?.acme === undefined ? [] : [service],
  );

/** The nodes that run services of this one whose certificates are ordered, with those services. */
export const certificatePeers = (site: Site, node: string): CertificatePeer[] => {
  const own = new Set(ordered(site, node));
  return Object.entries(site.nodes).flatMap(([other, { address }]) => {
    const services = other === node ? [] : ordered(site, other).filter((service) => own.has(service));
    return services.length === 0 ? [] : [{ node: other, address, services }];
  });
};

type Context = Pick<ChildContext, "clock" | "log" | "state" | "node" | "site">;

/** Certificates that this node orders, for the services whose address it has, and shares with the others. */
export class NodeCertificates {
  readonly #context: Context;
  readonly #orders: OrderProcesses;
  readonly #keeper: CertificateKeeper;
  #serving = false;
  #peers: CertificatePeers | undefined;
  #sharing = "";
  #problem = "";
  #stopped = false;
  #turn: Promise<void> = Promise.resolve();

  constructor(
    context: Context,
    workers: {
      /** To every worker: what authorities must find, and how often a certificate has changed. */
      certificates(challenges: readonly Challenge[], changes: number): void;
    },
  ) {
    const { clock, node } = context;
    this.#context = context;
    this.#orders = new OrderProcesses(clock);
    let challenges: readonly Challenge[] = [];
    let changes = 0;
    this.#keeper = new CertificateKeeper({
      clock,
      random: systemRandom,
      node,
      store: new DirectoryStore(certificateStore(context.state)),
      order: this.#orders.order,
      secret: readSecret,
      publish: (now) => {
        challenges = now;
        workers.certificates(challenges, changes);
      },
      changed: () => workers.certificates(challenges, ++changes),
      notice: (event, fields) => this.#notice(event, fields),
    });
  }

  #notice(event: string, fields: Record<string, unknown>): void {
    const { log } = this.#context;
    const good = ["acme.ordering", "acme.ordered", "acme.received", "acme.peers_listening"];
    if (good.includes(event)) log.info({ event, ...fields });
    else log.warn({ event, ...fields });
  }

  /** At start and at every reload: with whom certificates are shared, and by which keys, which are read anew. */
  useSite(site: Site): Promise<void> {
    this.#turn = this.#turn.then(() => this.#useSite(site));
    return this.#turn;
  }
  async #useSite(site: Site): Promise<void> {
    const { clock, node } = this.#context;
    const { certificates } = site;
    const address = site.nodes[node]?.address;
    const peers = certificates === undefined ? [] : certificatePeers(site, node);
    try {
      const keys =
        certificates === undefined || peers.length === 0
          ? undefined
          : await readSiteKeys(this.#context.site, certificates.keys, node);
      const now = JSON.stringify([site.site, certificates?.port, address, peers, keys]);
      this.#problem = "";
      if (now === this.#sharing || this.#stopped) return;
      this.#sharing = now;
      this.#peers?.close();
      this.#peers = undefined;
      if (keys !== undefined && certificates !== undefined && address !== undefined)
        this.#peers = new CertificatePeers({
          clock,
          site: site.site,
          node,
          listen: { address, port: certificates.port },
          peers,
          keys,
          host: this.#keeper,
          notice: (event, fields) => this.#notice(event, fields),
        });
      this.#keeper.share(this.#peers);
      await this.#peers?.open();
    } catch (error) {
      // With the keys that it has, or with none, it goes on by itself.
      this.#problem = messageOf(error);
      this.#notice("acme.peers_not_listening", { reason: this.#problem });
    }
  }

  /** The site that runs, which routers are Active here, and whether workers accept connections. */
  update(site: Site, routers: Facts["routers"], serving: boolean): void {
    this.#serving = serving;
    this.#keeper.update(
      Object.entries(proxyServices(site, this.#context.node)).flatMap(([service, { on, proxy }]) => {
        const settings = proxy.tls?.acme;
        if (settings === undefined) return [];
        // Only who has the address, and answers, is found by the authority.
        const active = on === undefined || routers?.find(({ router }) => router === on)?.state === "active";
        return [{ service, settings, here: active && serving }];
      }),
    );
  }

  problems(): NonNullable<Facts["certificates"]> {
    // A node that starts, or whose workers are gone, has an alarm of its own.
    if (!this.#serving) return [];
    return this.#keeper.problems();
  }
  /** Why certificates are not shared although the site asks for it; empty where they are, or need not be. */
  sharingProblem(): string {
    return this.#problem || (this.#peers?.problem() ?? "");
  }
  samples(): MetricSample[] {
    return [...this.#keeper.samples(), ...(this.#peers?.samples() ?? [])];
  }
  stop(): void {
    this.#stopped = true;
    this.#peers?.close();
    this.#keeper.stop();
    this.#orders.stop();
  }
}
