/**
 * A model of what is between nodes: byte streams that delay, cut and join what is written, stall in one direction,
 * break in the middle of a frame at different times for each end, and wait while a partition lasts. Within a stream
 * nothing is reordered. Beside them datagrams, for what the virtual routers say to each other.
 */
import type { EventQueue } from "../../../base/event-queue.ts";
import { type Random, chance, randomInt } from "../../../base/random.ts";

export interface StreamEnd {
  write(bytes: Uint8Array): void;
  /** From this side; the other learns of it in time, or by its own silence. */
  destroy(): void;
}
export interface Receiver {
  data(bytes: Uint8Array): void;
  closed(): void;
}
export type Dialed = { readonly end: End } | { readonly failed: "refused" | "timeout" };

/** One side of a stream. */
export class End implements StreamEnd {
  readonly node: number;
  receiver: Receiver | undefined;
  other!: End;
  open = true;
  readonly #network: SimNetwork;
  #sent: Uint8Array[] = [];
  #moving = false;

  constructor(network: SimNetwork, node: number) {
    this.#network = network;
    this.node = node;
  }
  write(bytes: Uint8Array): void {
    if (!this.open) return;
    this.#sent.push(bytes);
    this.#move(this.#network.delay());
  }
  destroy(): void {
    if (!this.open) return;
    this.open = false;
    this.receiver = undefined;
    this.#network.later(this.node, this.other.node, () => this.other.hangUp());
  }
  /** The stream is over for this side. */
  hangUp(): void {
    if (!this.open) return;
    this.open = false;
    const { receiver } = this;
    this.receiver = undefined;
    receiver?.closed();
  }
  /** The node lost its power: the other side is told nothing. */
  vanish(): void {
    this.open = false;
    this.receiver = undefined;
  }
  #move(after: number): void {
    if (this.#moving) return;
    this.#moving = true;
    this.#network.later(
      this.node,
      this.other.node,
      () => {
        this.#moving = false;
        this.#arrive();
      },
      after,
    );
  }
  #arrive(): void {
    const { other } = this;
    if (!other.open) {
      this.#sent = [];
      // A machine that has booted again knows no such stream.
      if (this.open) this.hangUp();
      return;
    }
    if (other.receiver === undefined) {
      // Its handshake is not over.
      this.#move(this.#network.delay());
      return;
    }
    const random = this.#network.random;
    const taken = this.#sent.splice(0, chance(random, 0.3) ? this.#sent.length : 1);
    const whole = joined(taken);
    const cut = chance(random, 0.15) ? randomInt(random, 0, whole.length) : whole.length;
    if (cut < whole.length) this.#sent.unshift(whole.slice(cut));
    if (this.#sent.length > 0) this.#move(this.#network.delay());
    other.receiver.data(whole.slice(0, cut));
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only;
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export class SimNetwork {
  readonly random: Random;
  readonly #queue: EventQueue;
  readonly #cut = new Set<string>();
  readonly #stalled = new Map<string, number>();
  #waiting: { readonly from: number; readonly to: number; readonly run: () => void }[] = [];
  readonly #powered: boolean[];
  readonly #streams = new Set<End>();
  slow = 0;
  loss = 0;

  constructor(queue: EventQueue, random: Random, nodes: number) {
    this.#queue = queue;
    this.random = random;
    this.#powered = Array.from({ length: nodes }, () => false);
  }
  isPowered(node: number): boolean {
    return this.#powered[node] ?? false;
  }
  delay(): number {
    return 0.1 + this.random.next() * (1 + this.slow);
  }

  /** `kind`: the streams of flows, or the datagrams of the virtual routers and what clients send. */
  cut(kind: "flows" | "segment", from: number, to: number): void {
    this.#cut.add(`${kind} ${from} ${to}`);
  }
  isCut(kind: "flows" | "segment", from: number, to: number): boolean {
    return this.#cut.has(`${kind} ${from} ${to}`);
  }
  stall(from: number, to: number, until: number): void {
    this.#stalled.set(`${from} ${to}`, until);
  }
  heal(): void {
    this.#cut.clear();
    this.#stalled.clear();
    this.slow = 0;
    this.loss = 0;
    // What was sent meanwhile is sent again when its timer says so.
    for (const { from, to, run } of this.#waiting.splice(0))
      this.later(from, to, run, this.random.next() * 1500);
  }

  /** Carried over a stream: waits for as long as the way is closed, and is gone with the power. */
  later(from: number, to: number, run: () => void, after = this.delay()): void {
    const until = this.#stalled.get(`${from} ${to}`) ?? 0;
    const at = Math.max(this.#queue.now + after, until);
    this.#queue.add(at, () => {
      if (this.isCut("flows", from, to)) this.#waiting.push({ from, to, run });
      else if (this.isPowered(to)) run();
      else this.#waiting.push({ from, to, run });
    });
  }
  datagram(from: number, to: number, run: () => void): void {
    if (this.isCut("segment", from, to) || chance(this.random, this.loss)) return;
    this.#queue.add(this.#queue.now + this.delay(), () => {
      if (this.isPowered(to)) run();
    });
  }

  /** `accept` answers what is to be done there once the handshake is over; undefined where nobody listens. */
  dial(
    from: number,
    to: number,
    accept: () => ((end: End) => void) | undefined,
    done: (dialed: Dialed) => void,
  ): void {
    const whole = (): boolean => !this.isCut("flows", from, to) && !this.isCut("flows", to, from);
    const fail = (failed: "refused" | "timeout", after: number): void =>
      this.#queue.add(this.#queue.now + after, () => done({ failed }));
    if (!whole() || !this.isPowered(to)) return fail("timeout", 1500);
    this.#queue.add(this.#queue.now + 3 * this.delay(), () => {
      if (!whole() || !this.isPowered(to)) return fail("timeout", 1500);
      const near = new End(this, from);
      const far = new End(this, to);
      near.other = far;
      far.other = near;
      const attach = accept();
      if (attach === undefined) return done({ failed: "refused" });
      this.#streams.add(near).add(far);
      // The one that dials knows first.
      done({ end: near });
      this.later(from, to, () => {
        if (far.open) attach(far);
      });
      return undefined;
    });
    return undefined;
  }
  /** Breaks what stands between two nodes, where it is at that moment. */
  breakBetween(a: number, b: number): void {
    for (const end of this.#streams) {
      if (
        !end.open ||
        !((end.node === a && end.other.node === b) || (end.node === b && end.other.node === a))
      )
        continue;
      this.#queue.add(this.#queue.now + this.random.next() * 20, () => end.hangUp());
    }
    this.#forget();
  }
  powerOff(node: number): void {
    this.#powered[node] = false;
    for (const end of this.#streams) if (end.node === node) end.vanish();
    this.#waiting = this.#waiting.filter(({ to }) => to !== node);
    this.#forget();
  }
  powerOn(node: number): void {
    this.#powered[node] = true;
    // Whoever still sends to a stream of the time before is told so by the first segment that it repeats.
    for (const { from, to, run } of this.#waiting.splice(0))
      if (to === node) this.later(from, to, run, this.random.next() * 1500);
      else this.#waiting.push({ from, to, run });
  }
  #forget(): void {
    for (const end of this.#streams) if (!end.open && !end.other.open) this.#streams.delete(end);
  }
}
