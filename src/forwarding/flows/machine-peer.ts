/**
 * Replication with one peer, both directions over one connection: a machine without I/O.
 *
 * What is sent is state, not history: of each flow only its latest form waits. Batches are numbered; the peer
 * acknowledges a batch when it is in its kernel. After a broken connection the peer says up to where it got:
 * what it has not acknowledged is sent again. A peer that knows nothing (reborn), or of which we do not know
 * (we are), gets a snapshot: begin, every flow of ours, end; what the peer holds of ours and did not get in
 * between is gone. New changes travel on meanwhile.
 */
import {
  type DurationMs,
  type MonotonicMs,
  NEVER,
  addTime,
  earliest,
  ms,
  timeSince,
} from "../../base/time.ts";
import { type News, Outgoing, type OwnFlows } from "./machine-outgoing.ts";
import type { RouterTerm } from "./machine-terms.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import {
  type Entry,
  type Frame,
  FrameReader,
  type FrameRefusal,
  type Hello,
  PROTOCOL_VERSION,
  decodeFrame,
  encodeFrame,
} from "./wire.ts";

export interface PeerConfig {
  readonly site: string;
  readonly node: string;
  readonly peer: string;
  /** Chosen at random by this process. */
  readonly instance: string;
  /** How long a change may wait for others to travel with it. */
  readonly delay: DurationMs;
  /** Entries of a batch. */
  readonly batch: number;
  /** Batches that may be unacknowledged. */
  readonly window: number;
  /** A sign of life is sent this often; three times as long without one, and the connection is given up. */
  readonly alive: DurationMs;
}

/** A batch from the peer: put it into the kernel, then call `applied`. In the order of arrival. */
export interface Delivery {
  /** Of the connection: what a broken one delivered comes again. */
  readonly session: number;
  readonly seq: number;
  readonly first: boolean;
  readonly last: boolean;
  /** Of a process that was started since the last snapshot. */
  readonly reborn: boolean;
  /** As of when it was sent, by virtual router. */
  readonly terms: ReadonlyMap<string, RouterTerm>;
  readonly entries: readonly Entry[];
}

export type PeerRefusal =
  | FrameRefusal
  | "hello_expected"
  | "hello_again"
  | "site_other"
  | "node_other"
  | "sequence"
  | "ack_unknown"
  | "silence";

export interface PeerStatus {
  readonly connected: boolean;
  /** The peer has all our flows, but for what is on its way. */
  readonly sentAll: boolean;
  /** We have all of the peer's, but for what is on its way. */
  readonly receivedAll: boolean;
  /** Changes that the peer has not acknowledged. */
  readonly unacknowledged: number;
  /** From a change to its acknowledgement, of the batch acknowledged last. */
  readonly lag: DurationMs;
  readonly snapshots: number;
  readonly resumes: number;
  readonly batchesSent: number;
  readonly entriesSent: number;
  readonly entriesReceived: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export class PeerMachine {
  readonly #config: PeerConfig;
  readonly #outgoing: Outgoing;
  readonly #output: Uint8Array[] = [];
  readonly #deliveries: Delivery[] = [];
  readonly #clients: AffinityEntry[] = [];

  // Receiving.
  #reader = new FrameReader();
  #services: readonly string[] = [];
  #terms: ReadonlyMap<string, RouterTerm> = new Map();
  #peerInstance = "";
  #received = 0;
  #applied = 0;
  /** An acknowledgement that has not been said yet: one says all before it. */
  #acknowledge = false;
  #appliedAt: MonotonicMs = NEVER;
  #receivedAll = false;
  #reborn = false;

  #session = 0;
  #connected = false;
  #greeted = false;
  #heardAt: MonotonicMs = NEVER;
  #saidAt: MonotonicMs = NEVER;
  #refusal: PeerRefusal | undefined;
  readonly #count = {
    entriesReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  constructor(config: PeerConfig, own: OwnFlows) {
    this.#config = config;
    this.#outgoing = new Outgoing(own, config, config.delay, (frame, now) => this.#say(frame, now));
  }

  // The part of the status that others wait for.
  get isConnected(): boolean {
    return this.#greeted;
  }
  get sentAll(): boolean {
    return this.#greeted && this.#outgoing.sentAll;
  }
  get receivedAll(): boolean {
    return this.#greeted && this.#receivedAll;
  }
  get status(): PeerStatus {
    const { unacknowledged, lag, counts } = this.#outgoing;
    const { isConnected: connected, sentAll, receivedAll } = this;
    return {
      connected,
      sentAll,
      receivedAll,
      unacknowledged,
      lag,
      ...counts,
      ...this.#count,
    };
  }
  /** Set once the connection must be ended, and why; `disconnected` clears it. */
  get refusal(): PeerRefusal | undefined {
    return this.#refusal;
  }

  /** A connection stands: greets. */
  connected(now: MonotonicMs): void {
    this.#connected = true;
    this.#greeted = false;
    this.#refusal = undefined;
    this.#reader = new FrameReader();
    this.#services = [];
    this.#terms = new Map();
    this.#outgoing.close();
    this.#heardAt = now;
    this.#say(
      {
        type: "hello",
        version: PROTOCOL_VERSION,
        site: this.#config.site,
        node: this.#config.node,
        instance: this.#config.instance,
        knows: { instance: this.#peerInstance, applied: this.#applied },
      },
      now,
    );
  }

  /** The connection is gone. What was on its way is sent again, in its latest form. */
  disconnected(): void {
    this.#connected = false;
    this.#greeted = false;
    this.#outgoing.close();
    this.#session++;
    this.#refusal = undefined;
    this.#output.length = 0;
    this.#acknowledge = false;
    this.#heardAt = NEVER;
    this.#saidAt = NEVER;
    // What arrived and is not in the kernel yet comes again: the peer will hear how far we got.
    this.#deliveries.length = 0;
    this.#clients.length = 0;
    this.#received = this.#applied;
  }

  /** A flow of ours changed, or ended. */
  changed(key: string, now: MonotonicMs, news: News = {}): void {
    this.#outgoing.changed(key, now, news);
  }

  /** Something may be missing on our side (an overrun, a takeover): everything of ours is sent anew. */
  resync(now: MonotonicMs): void {
    this.#outgoing.resync(now);
  }

  receive(chunk: Uint8Array, now: MonotonicMs): void {
    if (!this.#connected || this.#refusal !== undefined) return;
    this.#heardAt = now;
    this.#count.bytesReceived += chunk.length;
    const frames = this.#reader.receive(chunk);
    if (!frames.ok) {
      this.#refusal = frames.error;
      return;
    }
    for (const bytes of frames.value) {
      const frame = decodeFrame(bytes, this.#services);
      if (!frame.ok) this.#refusal = frame.error;
      else this.#onFrame(frame.value, now);
      if (this.#refusal !== undefined) return;
    }
  }

  /** This batch, and with it all before it, is in our kernel. */
  applied({ session, seq, last }: Delivery, now: MonotonicMs): void {
    if (session !== this.#session) return;
    this.#applied = seq;
    if (last) {
      this.#receivedAll = true;
      this.#reborn = false;
    }
    this.#acknowledge = true;
    this.#appliedAt = now;
  }

  takeOutput(): Uint8Array[] {
    if (this.#acknowledge) {
      this.#acknowledge = false;
      this.#say({ type: "ack", seq: this.#applied }, this.#appliedAt);
    }
    return this.#output.splice(0);
  }
  takeDeliveries(): Delivery[] {
    return this.#deliveries.splice(0);
  }

  nextDeadline(): MonotonicMs {
    if (!this.#connected || this.#refusal !== undefined) return NEVER;
    const { alive } = this.#config;
    return earliest(
      addTime(this.#heardAt, ms(3 * alive)),
      addTime(this.#saidAt, alive),
      this.#outgoing.dueAt(),
    );
  }

  handleTimeout(now: MonotonicMs): void {
    if (!this.#connected || this.#refusal !== undefined) return;
    const { alive } = this.#config;
    if (now >= addTime(this.#heardAt, ms(3 * alive))) {
      this.#refusal = "silence";
      return;
    }
    this.#outgoing.fill(now);
    if (now >= addTime(this.#saidAt, alive)) this.#say({ type: "alive" }, now);
  }

  /** Sends what waits, and until `until` what comes, without waiting for more: a hand-over is under way. */
  flush(now: MonotonicMs, until: MonotonicMs = now): void {
    this.#outgoing.flush(now, until);
  }
  /** For how long nothing has been heard. */
  silence(now: MonotonicMs): DurationMs {
    return timeSince(now, this.#heardAt);
  }
  /** Clients of one service and family and their backends; false where nobody can be told. */
  tellClients(entries: readonly AffinityEntry[], now: MonotonicMs): boolean {
    if (!this.#greeted || this.#refusal !== undefined) return false;
    this.#say({ type: "affinity", entries }, now);
    return true;
  }
  takeClients(): AffinityEntry[] {
    return this.#clients.splice(0);
  }
  /** Another delay from now on. */
  setDelay(delay: DurationMs): void {
    this.#outgoing.delay = delay;
  }

  #say(frame: Frame, now: MonotonicMs): void {
    this.#saidAt = now;
    const bytes = encodeFrame(frame, this.#outgoing.numbers);
    this.#count.bytesSent += bytes.length;
    this.#output.push(bytes);
  }

  #onFrame(frame: Frame, now: MonotonicMs): void {
    if (!this.#greeted) {
      if (frame.type === "hello") this.#onHello(frame, now);
      else this.#refusal = "hello_expected";
      return;
    }
    switch (frame.type) {
      case "hello":
        this.#refusal = "hello_again";
        return;
      case "services":
        this.#services = frame.names;
        return;
      case "batch":
        if (frame.seq !== this.#received + 1) {
          this.#refusal = "sequence";
          return;
        }
        this.#received = frame.seq;
        this.#count.entriesReceived += frame.entries.length;
        if (frame.first) this.#receivedAll = false;
        this.#deliver(frame);
        return;
      case "terms":
        this.#terms = new Map(frame.terms.map((term) => [term.router, term]));
        // In its turn, though there may be nothing else.
        this.#deliver({ seq: this.#received, first: false, last: false, entries: [] });
        return;
      case "ack":
        if (this.#outgoing.acknowledge(frame.seq, now)) this.#outgoing.fill(now);
        else this.#refusal = "ack_unknown";
        return;
      case "affinity":
        this.#clients.push(...frame.entries);
        return;
      case "alive":
        return;
    }
  }

  #deliver({ seq, first, last, entries }: Pick<Delivery, "seq" | "first" | "last" | "entries">): void {
    const [session, reborn, terms] = [this.#session, this.#reborn, this.#terms];
    this.#deliveries.push({ seq, first, last, entries, session, reborn, terms });
  }

  #onHello(hello: Hello, now: MonotonicMs): void {
    const { site, peer, instance } = this.#config;
    if (hello.site !== site) this.#refusal = "site_other";
    else if (hello.node !== peer) this.#refusal = "node_other";
    if (this.#refusal !== undefined) return;
    this.#greeted = true;
    if (hello.instance !== this.#peerInstance) {
      // A new process counts its batches from 1. What the kernel holds of the old one stays until its snapshot.
      this.#peerInstance = hello.instance;
      this.#received = 0;
      this.#applied = 0;
      this.#receivedAll = false;
      this.#reborn = true;
    }
    this.#outgoing.open(hello.knows.instance === instance ? hello.knows.applied : undefined, now);
  }
}
