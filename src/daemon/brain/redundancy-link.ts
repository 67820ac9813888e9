import { join } from "node:path";
import { OperationalError } from "../../base/errors.ts";
import { type MonotonicMs, addTime, seconds, timeSince } from "../../base/time.ts";
import type { FlowsReport } from "../../contracts/flows.ts";
import type {
  BrainToRedundancy,
  RedundancyPlan,
  RedundancyToBrain,
  RouterStatus,
} from "../../contracts/redundancy.ts";
import type { ChildContext } from "../child.ts";
import { LinkClient } from "../link.ts";
import { decodeRedundancy } from "./messages.ts";

/** A hand-over is a few round trips; its own deadlines lie below this one. */
const SWITCHOVER_WITHIN = seconds(10);

interface Waiting {
  resolve(): void;
  reject(error: OperationalError): void;
}

/** The brain's side of <runtime>/redundancy.sock: the plan and facts there, status and events back. */
export class RedundancyLink {
  readonly #context: ChildContext;
  readonly #client: LinkClient<BrainToRedundancy, RedundancyToBrain>;
  readonly #plan: () => RedundancyPlan;
  readonly #changed: () => void;
  readonly #onEvent: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #differing = new Map<string, string>();
  readonly #duplicates = new Map<string, string>();
  #nextId = 1;
  #heardAt: MonotonicMs;
  #routers: readonly RouterStatus[] | undefined;
  #counters: Readonly<Record<string, number>> = {};
  #flows: FlowsReport | undefined;
  #up = false;

  constructor(
    context: ChildContext,
    plan: () => RedundancyPlan,
    changed: () => void,
    onEvent: (event: string, fields: Readonly<Record<string, unknown>>) => void,
  ) {
    this.#context = context;
    this.#onEvent = onEvent;
    this.#plan = plan;
    this.#changed = changed;
    this.#heardAt = context.clock.monotonic();
    this.#client = new LinkClient({
      path: join(context.runtime, "redundancy.sock"),
      clock: context.clock,
      decode: decodeRedundancy,
      message: (message) => this.#heard(message),
      up: () => {
        this.#up = true;
        this.sendPlan();
        this.#changed();
      },
      down: (reason) => this.#down(reason),
    });
  }

  get connected(): boolean {
    return this.#client.connected && this.#routers !== undefined;
  }
  /** Undefined until the process has told; what it told last while it is being restarted is not kept. */
  get routers(): readonly RouterStatus[] | undefined {
    return this.#routers;
  }
  get counters(): Readonly<Record<string, number>> {
    return this.#counters;
  }
  /** What the flows process says; undefined while it says nothing. */
  get flows(): FlowsReport | undefined {
    return this.#flows;
  }
  get differing(): readonly { readonly node: string; readonly digest: string }[] {
    return [...this.#differing].map(([node, digest]) => ({ node, digest }));
  }
  /** Addresses of this node that somebody else answers for, with who does. */
  get duplicates(): readonly { readonly address: string; readonly reason: string }[] {
    return [...this.#duplicates].map(([address, reason]) => ({ address, reason }));
  }
  /** Milliseconds since the last status. */
  age(): number {
    return timeSince(this.#context.clock.monotonic(), this.#heardAt);
  }

  start(): void {
    this.#client.start();
  }
  stop(): void {
    this.#client.stop();
  }
  send(message: BrainToRedundancy): void {
    this.#client.send(message);
  }
  sendPlan(): void {
    this.#client.send({ type: "plan", plan: this.#plan() });
  }

  /** Settles when the process says what came of it. */
  switchover(router: string, to: string | undefined): Promise<void> {
    const id = this.#nextId++;
    const { clock } = this.#context;
    return new Promise((resolve, reject) => {
      const timer = clock.setTimer(addTime(clock.monotonic(), SWITCHOVER_WITHIN), () => {
        this.#waiting.delete(id);
        reject(new OperationalError("TIMEOUT", `the switchover of ${router} was not finished within 10 s`));
      });
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          timer.cancel();
          this.#waiting.delete(id);
          then(value);
        };
      this.#waiting.set(id, { resolve: settle<void>(resolve), reject: settle<OperationalError>(reject) });
      const message: BrainToRedundancy = {
        type: "switchover",
        id,
        router,
        ...(to === undefined ? {} : { to }),
      };
      if (!this.#client.send(message))
        this.#waiting
          .get(id)
          ?.reject(
            new OperationalError("PEER_LOST", "the redundancy process does not answer", { retryable: true }),
          );
    });
  }

  #heard(message: RedundancyToBrain): void {
    this.#heardAt = this.#context.clock.monotonic();
    switch (message.type) {
      case "ready":
        // It started without us and had no plan, or an old one.
        if (message.digest !== this.#plan().digest) this.sendPlan();
        break;
      case "status": {
        const before = JSON.stringify(this.#routers?.map(shape));
        this.#routers = message.routers;
        this.#counters = message.counters;
        this.#flows = message.flows;
        if (JSON.stringify(message.routers.map(shape)) !== before) this.#changed();
        break;
      }
      case "flush": // the flows process' to answer
        break;
      case "event":
        this.#event(message.event, message.fields);
        break;
      case "result": {
        const waiting = this.#waiting.get(message.id);
        if (message.ok) waiting?.resolve();
        else waiting?.reject(new OperationalError("CONFLICT", message.error ?? "the switchover was refused"));
        break;
      }
    }
  }

  #event(event: string, fields: Readonly<Record<string, unknown>>): void {
    this.#onEvent(event, fields);
    const { node, digest } = fields;
    if (event === "redundancy.site_differs" && typeof node === "string" && typeof digest === "string") {
      this.#differing.set(node, digest);
      this.#changed();
    } else if (event === "redundancy.duplicate_address" && typeof fields["address"] === "string") {
      this.#duplicates.set(fields["address"], String(fields["reason"]));
      this.#changed();
    } else if (event === "redundancy.duplicate_gone" && typeof fields["address"] === "string") {
      this.#duplicates.delete(fields["address"]);
      this.#changed();
    } else if (event === "redundancy.site_agrees" && typeof node === "string") {
      this.#differing.delete(node);
      this.#changed();
    }
  }

  #down(reason: string): void {
    if (this.#up) this.#context.log.warn({ event: "redundancy.link_lost", reason });
    this.#up = false;
    this.#routers = undefined;
    // Told anew when it is back.
    this.#duplicates.clear();
    this.#flows = undefined;
    for (const waiting of this.#waiting.values())
      waiting.reject(
        new OperationalError("PEER_LOST", `the redundancy process ended: ${reason}`, { retryable: true }),
      );
    this.#changed();
  }
}

/** What of a status makes a difference to the brain: not its clocks and counters. */
const shape = ({ router, state, active, failing }: RouterStatus) => [
  router,
  state,
  active?.address,
  failing.length,
];
