import { join } from "node:path";
import { systemRandom } from "../../base/random.ts";
import { readSecret } from "../../config/secrets.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Site } from "../../contracts/site.ts";
import type { Challenge } from "../../proxy/acme/messages.ts";
import { OrderProcesses } from "../../proxy/acme/orders.ts";
import { CertificateKeeper } from "../../proxy/acme/service.ts";
import { DirectoryStore } from "../../proxy/acme/store.ts";
import type { ChildContext } from "../child.ts";
import { proxyServices } from "../proxy-services.ts";
import type { Facts } from "./policy.ts";

/** Where a node keeps what it ordered; the proxy workers read it there. */
export const certificateStore = (state: string): string => join(state, "acme");

/** Certificates that this node orders, for the services whose address it has. */
export class NodeCertificates {
  readonly #orders: OrderProcesses;
  readonly #keeper: CertificateKeeper;
  readonly #node: string;
  #serving = false;

  constructor(
    context: Pick<ChildContext, "clock" | "log" | "state" | "node">,
    workers: {
      /** To every worker: what authorities must find, and how often a certificate has changed. */
      certificates(challenges: readonly Challenge[], changes: number): void;
    },
  ) {
    const { clock, log } = context;
    this.#node = context.node;
    this.#orders = new OrderProcesses(clock);
    let challenges: readonly Challenge[] = [];
    let changes = 0;
    this.#keeper = new CertificateKeeper({
      clock,
      random: systemRandom,
      store: new DirectoryStore(certificateStore(context.state)),
      order: this.#orders.order,
      secret: readSecret,
      publish: (now) => {
        challenges = now;
        workers.certificates(challenges, changes);
      },
      changed: () => workers.certificates(challenges, ++changes),
      notice: (event, fields) => {
        if (event === "acme.failed") log.warn({ event, ...fields });
        else log.info({ event, ...fields });
      },
    });
  }

  /** The site that runs, which routers are Active here, and whether workers accept connections. */
  update(site: Site, routers: Facts["routers"], serving: boolean): void {
    this.#serving = serving;
    this.#keeper.update(
      Object.entries(proxyServices(site, this.#node)).flatMap(([service, { on, proxy }]) => {
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
  samples(): MetricSample[] {
    return this.#keeper.samples();
  }
  stop(): void {
    this.#keeper.stop();
    this.#orders.stop();
  }
}
