import { fork } from "node:child_process";
import { extname, join } from "node:path";
import { OperationalError } from "../../base/errors.ts";
import { type Clock, addTime, ms, seconds } from "../../base/time.ts";
import type { Account, Challenge, FromOrder, OrderRequest, ToOrder } from "./messages.ts";

/** An authority that looks from several places, slowly, needs a minute; the process is ended after this. */
const ORDER_WITHIN = seconds(300);
/** Workers are told at once; they have heard it after this. */
const HEARD_WITHIN = ms(300);

/** Whoever lets the authority find challenges, and keeps what it gives. */
export interface OrderHost {
  /** Settles when it can be found wherever the authority may ask. */
  publish(challenge: Challenge): Promise<void>;
  withdraw(challenge: Challenge): void;
  account(account: Account): Promise<void>;
}

/** Orders a certificate: key and chain as PEM. Throws OperationalError. */
export type Order = (request: OrderRequest, host: OrderHost) => Promise<string>;

/** In a process that lives for one order. `stop` ends those that run. */
export class OrderProcesses {
  readonly #clock: Clock;
  readonly #running = new Set<() => void>();
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  stop(): void {
    for (const end of this.#running) end();
  }

  readonly order: Order = (request, host) =>
    new Promise((resolve, reject) => {
      const entry = join(import.meta.dirname, `order-entry${extname(import.meta.filename)}`);
      const child = fork(entry, { stdio: ["ignore", "ignore", "pipe", "ipc"], serialization: "json" });
      const open = new Map<number, Challenge>();
      let last = "";
      let kept: Promise<void> = Promise.resolve();
      let over = false;
      const say = (message: ToOrder): void => {
        if (child.connected) child.send(message, () => undefined);
      };
      const end = (reason: string | undefined, pem = ""): void => {
        if (over) return;
        over = true;
        timer.cancel();
        this.#running.delete(cut);
        child.kill("SIGKILL");
        for (const challenge of open.values()) host.withdraw(challenge);
        if (reason === undefined) kept.then(() => resolve(pem), reject);
        else reject(new OperationalError("PEER_REFUSED", reason, { retryable: true }));
      };
      const cut = (): void => end("the node stops");
      this.#running.add(cut);
      const { host: authority } = new URL(request.directory);
      const timer = this.#clock.setTimer(addTime(this.#clock.monotonic(), ORDER_WITHIN), () =>
        end(`${authority} did not finish the order within ${ORDER_WITHIN / 1000} s`),
      );
      child.stderr?.on("data", (part: Buffer) => (last = `${last}${part.toString()}`.slice(-2000)));
      child.on("error", (error) => end(`the process for the order did not start: ${error.message}`));
      child.on("exit", (code, signal) =>
        end(`the process for the order ended (${signal ?? `status ${code}`}): ${lastLine(last)}`),
      );
      child.on("message", (message: FromOrder) => {
        if (over) return;
        switch (message.type) {
          case "challenge":
            open.set(message.id, message.challenge);
            void host.publish(message.challenge).finally(() => {
              this.#clock.setTimer(addTime(this.#clock.monotonic(), HEARD_WITHIN), () =>
                say({ type: "published", id: message.id }),
              );
            });
            break;
          case "over": {
            const challenge = open.get(message.id);
            open.delete(message.id);
            if (challenge !== undefined) host.withdraw(challenge);
            break;
          }
          case "account":
            kept = host.account(message.account);
            // Told to whoever waits for the order.
            kept.catch(() => undefined);
            break;
          case "ordered":
            end(undefined, message.pem);
            break;
          case "failed":
            end(`${authority}: ${message.reason}`);
        }
      });
      say({ type: "order", request });
    });
}

const lastLine = (text: string): string =>
  text
    .trim()
    .split("\n")
    .find((line) => /error/i.test(line)) ?? "no reason was given";
