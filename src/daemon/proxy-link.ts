import { join } from "node:path";
import { messageOf } from "../base/errors.ts";
import { type Timer, addTime, ms } from "../base/time.ts";
import type { Ejection } from "../proxy/engine/policy-outlier.ts";
import type { Proxy } from "../proxy/proxy.ts";
import type { ChildContext } from "./child.ts";
import { LinkClient } from "./link.ts";
import { type BrainToProxy, type ProxyToBrain, decodeBrain } from "./messages-proxy.ts";

const ALIVE_EVERY = ms(250);
/** Counters are told with every fourth sign of life. */
const REPORT_EVERY = 4;

export interface ProxyLinkOptions {
  readonly context: Pick<ChildContext, "clock" | "log" | "runtime">;
  readonly proxy: Proxy;
  /** Who this is, as of now: a spare becomes a worker. */
  readonly who: () => { readonly index: number; readonly spare: boolean };
  /** The digest of the site that runs. */
  readonly digest: () => string;
  /** Another site was accepted, or the same one was read again. */
  readonly reload: () => Promise<void>;
}

/**
 * A worker's link to the brain. While the brain is silent the worker goes on with what it knows: a brain
 * that restarts costs no request.
 */
export class ProxyLink {
  readonly #options: ProxyLinkOptions;
  readonly #client: LinkClient<ProxyToBrain, BrainToProxy>;
  #timer: Timer | undefined;
  #turns = 0;
  #told = "";
  #up = false;
  /** Certificates replaced, as the brain counts. */
  #changes = 0;
  /** Of this connection: the first site message only says where the brain stands. */
  #reloads: number | undefined;
  /** Why the site that the brain told of last does not run here; empty where it does. */
  #problem = "";

  constructor(options: ProxyLinkOptions) {
    this.#options = options;
    const { clock, log, runtime } = options.context;
    this.#client = new LinkClient({
      path: join(runtime, "proxy.sock"),
      clock,
      decode: decodeBrain,
      message: (message) => this.#heard(message),
      up: () => {
        this.#up = true;
        this.#told = "";
        this.#reloads = undefined;
        this.hello();
        this.report();
      },
      down: (reason) => {
        if (this.#up) log.info({ event: "proxy.brain_silent", reason });
        this.#up = false;
      },
    });
  }

  start(): void {
    this.#client.start();
    this.#turn();
  }
  stop(): void {
    this.#timer?.cancel();
    this.#client.send({ type: "leaving" });
  }
  close(): void {
    this.#client.stop();
  }

  /** Says who this is and whether it serves. */
  hello(): void {
    const { proxy, who } = this.#options;
    this.#client.send({ type: "hello", pid: process.pid, ...who() });
    this.#client.send({ type: "alive", serving: proxy.listening });
  }

  /** A backend that this worker has ejected: the others shall do the same. */
  ejected(ejection: Ejection): void {
    this.#client.send({ type: "ejected", ejection });
  }

  /** Counters and ejections, where they differ from those told last. */
  report(): void {
    const { proxy, digest } = this.#options;
    const message: ProxyToBrain = {
      type: "report",
      digest: digest(),
      metrics: proxy.metrics(),
      ejected: proxy.ejected(),
    };
    const text = JSON.stringify(message);
    if (text === this.#told || !this.#client.send(message)) return;
    this.#told = text;
  }

  #turn(): void {
    const { clock } = this.#options.context;
    this.#client.send({ type: "alive", serving: this.#options.proxy.listening });
    if (this.#turns++ % REPORT_EVERY === 0) this.report();
    this.#timer = clock.setTimer(addTime(clock.monotonic(), ALIVE_EVERY), () => this.#turn());
  }

  #heard(message: BrainToProxy): void {
    const { proxy, digest, reload, context } = this.#options;
    if (message.type === "backends") {
      for (const backend of message.backends) proxy.backendStatus(backend);
      return;
    }
    if (message.type === "ejections") {
      for (const ejection of message.ejections) proxy.eject(ejection);
      return;
    }
    if (message.type === "node") {
      proxy.takeOut(message.failing, message.retiring);
      return;
    }
    if (message.type === "certificates") {
      proxy.challenges(message.challenges);
      if (message.changes !== this.#changes) proxy.refreshCertificates();
      this.#changes = message.changes;
      return;
    }
    const known = this.#reloads;
    this.#reloads = message.reloads;
    if (message.digest === digest() && (known === undefined || known === message.reloads)) {
      this.#answer(message.reloads);
      return;
    }
    reload()
      .then(
        () => (this.#problem = ""),
        (error: unknown) => {
          this.#problem = messageOf(error);
          context.log.error({ event: "proxy.reload_failed", reason: this.#problem });
        },
      )
      .finally(() => this.#answer(message.reloads));
  }

  #answer(reloads: number): void {
    this.#client.send({ type: "site", reloads, problem: this.#problem });
  }
}
