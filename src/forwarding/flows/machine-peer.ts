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
  instant,
  ms,
  timeSince,
} from "../../base/time.ts";
import { flowKey } from "../../linux/wire-conntrack.ts";
import {
  type Entry,
  type FlowRecord,
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

/** Our own flows: read when a change is sent, so that only the latest form travels. */
export interface OwnFlows {
  get(key: string): FlowRecord | undefined;
  keys(): Iterable<string>;
}

/** A batch from the peer: put it into the kernel, then call `applied`. In the order of arrival. */
export interface Delivery {
  /** Of the connection: what a broken one delivered comes again. */
  readonly session: number;
  readonly seq: number;
  readonly first: boolean;
  readonly last: boolean;
  readonly entries: readonly Entry[];
}

export type PeerRefusal =
  | FrameRefusal
  | "hello_expected"
  | "hello_again"
  | "version_unknown"
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

interface Batch {
  readonly seq: number;
  /** Of the oldest change in it. */
  readonly since: MonotonicMs;
  readonly entries: readonly Entry[];
  readonly first: boolean;
  readonly last: boolean;
}

type EndedFlow = Extract<Entry, { ended: true }>["flow"];
interface Waiting {
  readonly since: MonotonicMs;
  readonly ended?: EndedFlow;
}

/** Changes kept for a peer that is away; with more, a snapshot is cheaper than the difference. */
const MOST_WAITING = 65_536;

export class PeerMachine {
  readonly #config: PeerConfig;
  readonly #own: OwnFlows;
  #delay: DurationMs;
  readonly #output: Uint8Array[] = [];
  readonly #deliveries: Delivery[] = [];

  // Sending. `pending` holds keys in the order of their first change; a flow that ended carries its name,
  // since it is no longer among our own.
  #pending = new Map<string, Waiting>();
  #inFlight: Batch[] = [];
  #nextSeq = 1;
  /** The snapshot's keys that have not been sent yet; undefined outside of one. */
  #snapshot: Set<string> | undefined;
  #snapshotBegun = false;
  /** Whether a whole snapshot, or a resumption, has told the peer all that is ours. */
  #sentAll = false;
  #names: string[] = [];
  #numbers = new Map<string, number>();

  // Receiving.
  #reader = new FrameReader();
  #services: readonly string[] = [];
  #peerInstance = "";
  #received = 0;
  #applied = 0;
  #receivedAll = false;

  #session = 0;
  #connected = false;
  #greeted = false;
  #heardAt: MonotonicMs = NEVER;
  #saidAt: MonotonicMs = NEVER;
  #refusal: PeerRefusal | undefined;
  readonly #count = {
    snapshots: 0,
    resumes: 0,
    batchesSent: 0,
    entriesSent: 0,
    entriesReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  /** Until then nothing waits for company: a hand-over is under way. */
  #hurryUntil: MonotonicMs = instant(Number.NEGATIVE_INFINITY);
  #lag = ms(0);

  constructor(config: PeerConfig, own: OwnFlows) {
    this.#config = config;
    this.#own = own;
    this.#delay = config.delay;
  }

  get status(): PeerStatus {
    let unacknowledged = this.#pending.size;
    for (const batch of this.#inFlight) unacknowledged += batch.entries.length;
    return {
      connected: this.#greeted,
      sentAll: this.#greeted && this.#sentAll && this.#snapshot === undefined,
      receivedAll: this.#greeted && this.#receivedAll,
      unacknowledged,
      lag: this.#lag,
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
    this.#names = [];
    this.#numbers = new Map();
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
    this.#session++;
    this.#refusal = undefined;
    this.#output.length = 0;
    this.#heardAt = NEVER;
    this.#saidAt = NEVER;
    // What arrived and is not in the kernel yet comes again: the peer will hear how far we got.
    this.#deliveries.length = 0;
    this.#received = this.#applied;
  }

  /** A flow of ours changed, or ended. */
  changed(key: string, now: MonotonicMs, ended?: EndedFlow): void {
    if (!this.#greeted && !this.#sentAll) return; // the snapshot to come will say it
    const since = this.#pending.get(key)?.since ?? now;
    this.#pending.set(key, ended === undefined ? { since } : { since, ended });
    if (!this.#greeted && this.#pending.size > MOST_WAITING) this.resync(now);
    this.#fill(now);
  }

  /** Something may be missing on our side (an overrun, a takeover): everything of ours is sent anew. */
  resync(now: MonotonicMs): void {
    if (!this.#greeted) {
      // The next hello finds nothing to go on from.
      this.#sentAll = false;
      this.#inFlight = [];
      this.#pending.clear();
      return;
    }
    this.#begin(now);
    this.#fill(now);
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
    if (last) this.#receivedAll = true;
    this.#say({ type: "ack", seq }, now);
  }

  takeOutput(): Uint8Array[] {
    return this.#output.splice(0);
  }
  takeDeliveries(): Delivery[] {
    return this.#deliveries.splice(0);
  }

  nextDeadline(): MonotonicMs {
    if (!this.#connected || this.#refusal !== undefined) return NEVER;
    const { alive } = this.#config;
    return earliest(addTime(this.#heardAt, ms(3 * alive)), addTime(this.#saidAt, alive), this.#dueAt());
  }

  handleTimeout(now: MonotonicMs): void {
    if (!this.#connected || this.#refusal !== undefined) return;
    const { alive } = this.#config;
    if (now >= addTime(this.#heardAt, ms(3 * alive))) {
      this.#refusal = "silence";
      return;
    }
    this.#fill(now);
    if (now >= addTime(this.#saidAt, alive)) this.#say({ type: "alive" }, now);
  }

  /** Sends what waits, and until `until` what comes, without waiting for more: a hand-over is under way. */
  flush(now: MonotonicMs, until: MonotonicMs = now): void {
    if (until > this.#hurryUntil) this.#hurryUntil = until;
    this.#fill(now, true);
  }
  /** For how long nothing has been heard. */
  silence(now: MonotonicMs): DurationMs {
    return timeSince(now, this.#heardAt);
  }
  /** Another delay from now on. */
  setDelay(delay: DurationMs): void {
    this.#delay = delay;
  }

  #say(frame: Frame, now: MonotonicMs): void {
    this.#saidAt = now;
    const bytes = encodeFrame(frame, this.#numbers);
    this.#count.bytesSent += bytes.length;
    this.#output.push(bytes);
  }

  /** When the oldest change has waited long enough. */
  #dueAt(): MonotonicMs {
    if (!this.#greeted || this.#inFlight.length >= this.#config.window) return NEVER;
    if (this.#snapshot !== undefined) return this.#saidAt;
    const [oldest] = this.#pending.values();
    return oldest === undefined ? NEVER : addTime(oldest.since, this.#delay);
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
        this.#deliveries.push({ ...frame, session: this.#session });
        return;
      case "ack":
        this.#acknowledge(frame.seq, now);
        this.#fill(now);
        return;
      case "alive":
        return;
    }
  }

  #onHello(hello: Hello, now: MonotonicMs): void {
    const { site, peer, instance } = this.#config;
    if (hello.version !== PROTOCOL_VERSION) this.#refusal = "version_unknown";
    else if (hello.site !== site) this.#refusal = "site_other";
    else if (hello.node !== peer) this.#refusal = "node_other";
    if (this.#refusal !== undefined) return;
    this.#greeted = true;
    if (hello.instance !== this.#peerInstance) {
      // A new process counts its batches from 1. What the kernel holds of the old one stays until its snapshot.
      this.#peerInstance = hello.instance;
      this.#received = 0;
      this.#applied = 0;
      this.#receivedAll = false;
    }
    const goesOn =
      hello.knows.instance === instance &&
      this.#sentAll &&
      hello.knows.applied >= (this.#inFlight[0]?.seq ?? this.#nextSeq) - 1 &&
      hello.knows.applied < this.#nextSeq;
    if (goesOn) this.#resume(hello.knows.applied, now);
    else this.#restart(hello.knows.instance === instance ? hello.knows.applied : 0, now);
    this.#fill(now);
  }

  /** The peer has everything up to `applied`; what came after goes out again. */
  #resume(applied: number, now: MonotonicMs): void {
    this.#count.resumes++;
    this.#acknowledge(applied, now);
    const again = this.#inFlight;
    this.#inFlight = [];
    this.#nextSeq = applied + 1;
    const interrupted = this.#snapshot !== undefined || again.some((batch) => batch.first || batch.last);
    if (interrupted) {
      this.#begin(now);
      return;
    }
    // Older than what waits: first in the order, and giving way to a newer form.
    const merged = new Map<string, Waiting>();
    for (const batch of again)
      for (const entry of batch.entries)
        merged.set(
          flowKey(entry.flow),
          entry.ended ? { since: batch.since, ended: entry.flow } : { since: batch.since },
        );
    for (const [key, value] of this.#pending)
      merged.set(key, { ...value, since: merged.get(key)?.since ?? value.since });
    this.#pending = merged;
  }

  #restart(applied: number, now: MonotonicMs): void {
    this.#inFlight = [];
    this.#nextSeq = applied + 1;
    this.#begin(now);
  }

  #begin(now: MonotonicMs): void {
    this.#count.snapshots++;
    this.#sentAll = false;
    this.#snapshot = new Set(this.#own.keys());
    this.#snapshotBegun = false;
    // A snapshot says all of it, the flows that ended included.
    this.#pending.clear();
    this.#saidAt = now;
  }

  #acknowledge(seq: number, now: MonotonicMs): void {
    if (seq >= this.#nextSeq) {
      this.#refusal = "ack_unknown";
      return;
    }
    let batch = this.#inFlight[0];
    while (batch !== undefined && batch.seq <= seq) {
      this.#inFlight.shift();
      this.#lag = timeSince(now, batch.since);
      if (batch.last) this.#sentAll = true;
      batch = this.#inFlight[0];
    }
  }

  /** Sends as many batches as are due and the window allows. */
  #fill(now: MonotonicMs, hurry = false): void {
    if (!this.#greeted) return;
    const { batch, window } = this.#config;
    const delay = now < this.#hurryUntil ? ms(0) : this.#delay;
    while (this.#inFlight.length < window) {
      const [oldest] = this.#pending.values();
      const due =
        oldest !== undefined && (hurry || this.#pending.size >= batch || now >= addTime(oldest.since, delay));
      if (this.#snapshot !== undefined) this.#sendSnapshot(now);
      else if (due) this.#send(this.#takePending(batch), oldest.since, false, false, now);
      else return;
    }
  }

  #sendSnapshot(now: MonotonicMs): void {
    const snapshot = this.#snapshot ?? new Set();
    // Changes first: they are what is being waited for, and they count for the snapshot as well.
    const [oldest] = this.#pending.values();
    const first = !this.#snapshotBegun;
    const entries = first ? [] : this.#takePending(this.#config.batch);
    for (const key of snapshot) {
      if (entries.length >= this.#config.batch) break;
      snapshot.delete(key);
      const flow = this.#own.get(key);
      if (flow !== undefined) entries.push({ ended: false, flow });
    }
    // What changed since is either in it or waits behind it.
    const last = snapshot.size === 0;
    this.#snapshotBegun = true;
    if (last) this.#snapshot = undefined;
    this.#send(entries, oldest?.since ?? now, first, last, now);
  }

  #takePending(count: number): Entry[] {
    const entries: Entry[] = [];
    for (const [key, { ended }] of this.#pending) {
      if (entries.length >= count) break;
      this.#pending.delete(key);
      const flow = this.#own.get(key);
      if (flow !== undefined) entries.push({ ended: false, flow });
      else if (ended !== undefined) entries.push({ ended: true, flow: ended });
    }
    return entries;
  }

  #send(
    entries: readonly Entry[],
    since: MonotonicMs,
    first: boolean,
    last: boolean,
    now: MonotonicMs,
  ): void {
    if (entries.length === 0 && !first && !last) return;
    this.#introduce(entries, now);
    const seq = this.#nextSeq++;
    this.#inFlight.push({ seq, since, entries, first, last });
    this.#count.batchesSent++;
    this.#count.entriesSent += entries.length;
    this.#say({ type: "batch", seq, first, last, entries }, now);
  }

  #introduce(entries: readonly Entry[], now: MonotonicMs): void {
    const known = this.#names.length;
    for (const { flow } of entries) {
      if (this.#numbers.has(flow.service)) continue;
      this.#numbers.set(flow.service, this.#names.length);
      this.#names.push(flow.service);
    }
    if (this.#names.length > known) this.#say({ type: "services", names: [...this.#names] }, now);
  }
}
