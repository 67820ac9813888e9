/**
 * What a peer is told, and in which order: changes travel in numbered batches, one in a delay unless it is full, and are
 * forgotten once acknowledged. One that comes alone goes at once; those that follow wait for company. A snapshot, while
 * one is under way, is sent beside them. Pure.
 */
import {
  type DurationMs,
  type MonotonicMs,
  NEVER,
  addTime,
  instant,
  latest,
  ms,
  timeSince,
} from "../../base/time.ts";
import { flowKey } from "../../linux/wire-conntrack.ts";
import type { RouterTerm } from "./machine-terms.ts";
import type { Entry, FlowRecord, Frame } from "./wire.ts";

/** Our own flows: read when a change is sent, so that only the latest form travels. */
export interface OwnFlows {
  get(key: string): FlowRecord | undefined;
  keys(): Iterable<string>;
  /** Another array with every change: a peer hears of it before anything else. */
  readonly terms?: readonly RouterTerm[];
}
/** What is not among our own flows, and cannot be read from there when it is sent. */
export interface News {
  readonly ended?: Extract<Entry, { ended: true }>["flow"];
  /** A connection in its handshake. */
  readonly halfOpen?: FlowRecord;
}

interface Batch {
  readonly seq: number;
  /** Of the oldest change in it. */
  readonly since: MonotonicMs;
  readonly entries: readonly Entry[];
  readonly first: boolean;
  readonly last: boolean;
}
interface Waiting extends News {
  readonly since: MonotonicMs;
}

const waiting = (since: MonotonicMs, ended: News["ended"], halfOpen: News["halfOpen"]): Waiting => ({
  since,
  ...(ended !== undefined && { ended }),
  ...(halfOpen !== undefined && { halfOpen }),
});

/** Changes kept for a peer that is away, and for one that is slow; with more, a snapshot is cheaper than the difference. */
const MOST_WAITING = { away: 65_536, slow: 262_144 };

export class Outgoing {
  readonly #own: OwnFlows;
  /** Entries of a batch, and batches that may be unacknowledged. */
  readonly #most: { readonly batch: number; readonly window: number };
  readonly #say: (frame: Frame, now: MonotonicMs) => void;
  #delay: DurationMs;
  /** The peer has greeted on this connection: it may be told. */
  #open = false;

  /** In the order of the first change of each; a flow that ended carries its name, as it is no longer among our own. */
  #pending = new Map<string, Waiting>();
  /** Of the first of them: asked for with every change, and a map's first entry is not found at once. */
  #oldest: MonotonicMs = NEVER;
  /** When the last batch went. */
  #sentAt: MonotonicMs = instant(Number.NEGATIVE_INFINITY);
  /** Shared by all that changed at one instant. */
  #lately: Waiting = { since: NEVER };
  #inFlight: Batch[] = [];
  #nextSeq = 1;
  /** The snapshot's keys, and how many of them have been sent; undefined outside of one. */
  #snapshot: readonly string[] | undefined;
  #snapshotSent = 0;
  #snapshotBegun = false;
  #snapshotSince: MonotonicMs = NEVER;
  /** Whether a whole snapshot, or a resumption, has told the peer all that is ours. */
  #sentAll = false;
  /** Said last on this connection. */
  #terms: readonly RouterTerm[] = [];
  #names: string[] = [];
  #numbers = new Map<string, number>();
  /** Until then nothing waits for company: a hand-over is under way. */
  #hurryUntil: MonotonicMs = instant(Number.NEGATIVE_INFINITY);
  #lag = ms(0);
  readonly #count = { snapshots: 0, resumes: 0, batchesSent: 0, entriesSent: 0 };

  constructor(
    own: OwnFlows,
    most: { readonly batch: number; readonly window: number },
    delay: DurationMs,
    say: (frame: Frame, now: MonotonicMs) => void,
  ) {
    this.#own = own;
    this.#most = most;
    this.#delay = delay;
    this.#say = say;
  }

  /** Services by name, as numbered on this connection. */
  get numbers(): ReadonlyMap<string, number> {
    return this.#numbers;
  }
  get sentAll(): boolean {
    return this.#sentAll && this.#snapshot === undefined;
  }
  get unacknowledged(): number {
    let count = this.#pending.size;
    for (const batch of this.#inFlight) count += batch.entries.length;
    return count;
  }
  /** From a change to its acknowledgement, of the batch acknowledged last. */
  get lag(): DurationMs {
    return this.#lag;
  }
  get counts(): Readonly<Record<"snapshots" | "resumes" | "batchesSent" | "entriesSent", number>> {
    return this.#count;
  }
  set delay(delay: DurationMs) {
    this.#delay = delay;
  }

  /** A connection stands, or is gone: what was introduced on the last one is unknown. */
  close(): void {
    this.#open = false;
    this.#terms = [];
    this.#names = [];
    this.#numbers = new Map();
  }

  /**
   * The peer has greeted. `applied`: the batch of ours that it has, where it knows of this process; what came after
   * goes out again. Else it gets a snapshot.
   */
  open(applied: number | undefined, now: MonotonicMs): void {
    this.#open = true;
    const goesOn =
      applied !== undefined &&
      this.#sentAll &&
      applied >= (this.#inFlight[0]?.seq ?? this.#nextSeq) - 1 &&
      applied < this.#nextSeq;
    if (goesOn) this.#resume(applied, now);
    else {
      this.#inFlight = [];
      this.#nextSeq = (applied ?? 0) + 1;
      this.#begin(now);
    }
    this.fill(now);
  }

  /** A flow of ours changed, or ended. */
  changed(key: string, now: MonotonicMs, news: News): void {
    if (!this.#open && !this.#sentAll) return; // the snapshot to come will say it
    this.#wait(key, now, news);
    if (this.#pending.size > (this.#open ? MOST_WAITING.slow : MOST_WAITING.away)) this.resync(now);
    // The rest waits for company, or for the end of what is being told now.
    if (this.#pending.size >= this.#most.batch) this.fill(now);
  }

  #wait(key: string, now: MonotonicMs, { ended, halfOpen }: News): void {
    const known = this.#pending.get(key);
    if (known === undefined) {
      if (this.#pending.size === 0) this.#oldest = now;
      if (this.#lately.since !== now) this.#lately = { since: now };
      const plain = ended === undefined && halfOpen === undefined;
      this.#pending.set(key, plain ? this.#lately : waiting(now, ended, halfOpen));
    } else if (known.ended !== undefined || ended !== undefined)
      this.#pending.set(key, waiting(known.since, ended, halfOpen));
  }

  /** Something may be missing on our side (an overrun, a takeover): everything of ours is sent anew. */
  resync(now: MonotonicMs): void {
    if (!this.#open) {
      // The next hello finds nothing to go on from.
      this.#sentAll = false;
      this.#inFlight = [];
      this.#forget();
      return;
    }
    this.#begin(now);
    this.fill(now);
  }

  /** Sends what waits, and until `until` what comes, without waiting for more. */
  flush(now: MonotonicMs, until: MonotonicMs): void {
    if (until > this.#hurryUntil) this.#hurryUntil = until;
    this.fill(now, true);
  }

  /** All batches up to this one are in the peer's kernel. False where it was never sent. */
  acknowledge(seq: number, now: MonotonicMs): boolean {
    if (seq >= this.#nextSeq) return false;
    let batch = this.#inFlight[0];
    while (batch !== undefined && batch.seq <= seq) {
      this.#inFlight.shift();
      this.#lag = timeSince(now, batch.since);
      if (batch.last) this.#sentAll = true;
      batch = this.#inFlight[0];
    }
    return true;
  }

  /** When what waits is to be sent. */
  dueAt(): MonotonicMs {
    if (!this.#open || this.#inFlight.length >= this.#most.window) return NEVER;
    if (this.#snapshot !== undefined) return this.#snapshotSince;
    return this.#due(this.#oldest);
  }

  /** When a change of then must go. */
  #due(since: MonotonicMs): MonotonicMs {
    return since < this.#hurryUntil ? since : latest(since, addTime(this.#sentAt, this.#delay));
  }

  /** Sends as many batches as are due and the window allows. */
  fill(now: MonotonicMs, hurry = false): void {
    if (!this.#open) return;
    const { terms = this.#terms } = this.#own;
    if (terms !== this.#terms) {
      this.#terms = terms;
      this.#say({ type: "terms", terms }, now);
    }
    const { batch, window } = this.#most;
    while (this.#inFlight.length < window) {
      const { size } = this.#pending;
      const since = this.#oldest;
      const due = size > 0 && (hurry || size >= batch || now >= this.#due(since));
      if (this.#snapshot !== undefined) this.#sendSnapshot(now);
      else if (due) this.#send(this.#takePending(batch), since, false, false, now);
      else return;
    }
  }

  #resume(applied: number, now: MonotonicMs): void {
    this.#count.resumes++;
    this.acknowledge(applied, now);
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
    this.#oldest = NEVER;
    for (const { since } of merged.values()) {
      this.#oldest = since;
      break;
    }
  }

  #begin(now: MonotonicMs): void {
    this.#count.snapshots++;
    this.#sentAll = false;
    // The end of an earlier one says nothing any more.
    this.#inFlight = this.#inFlight.map((batch) => (batch.last ? { ...batch, last: false } : batch));
    this.#snapshot = [...this.#own.keys()];
    this.#snapshotSent = 0;
    this.#snapshotBegun = false;
    this.#snapshotSince = now;
    // A snapshot says all of it, the flows that ended included.
    this.#forget();
  }

  #forget(): void {
    this.#pending.clear();
    this.#oldest = NEVER;
  }

  #sendSnapshot(now: MonotonicMs): void {
    const snapshot = this.#snapshot ?? [];
    // Changes first: they are what is being waited for.
    const since = this.#pending.size > 0 ? this.#oldest : now;
    const first = !this.#snapshotBegun;
    const entries = first ? [] : this.#takePending(this.#most.batch);
    while (entries.length < this.#most.batch && this.#snapshotSent < snapshot.length) {
      const flow = this.#own.get(snapshot[this.#snapshotSent++] ?? "");
      if (flow !== undefined) entries.push({ ended: false, flow });
    }
    // What changed since is either in it or waits behind it.
    const last = this.#snapshotSent === snapshot.length;
    this.#snapshotBegun = true;
    if (last) this.#snapshot = undefined;
    this.#send(entries, since, first, last, now);
  }

  #takePending(count: number): Entry[] {
    const entries: Entry[] = [];
    const whole = this.#pending.size <= count;
    this.#oldest = NEVER;
    for (const [key, { since, ended, halfOpen }] of this.#pending) {
      if (entries.length >= count) {
        this.#oldest = since;
        break;
      }
      if (!whole) this.#pending.delete(key);
      const flow = this.#own.get(key) ?? halfOpen;
      if (flow !== undefined) entries.push({ ended: false, flow });
      else if (ended !== undefined) entries.push({ ended: true, flow: ended });
    }
    if (whole) this.#pending.clear();
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
    this.#sentAt = now;
    this.#inFlight.push({ seq, since, entries, first, last });
    this.#count.batchesSent++;
    this.#count.entriesSent += entries.length;
    this.#say({ type: "batch", seq, first, last, entries }, now);
  }

  #introduce(entries: readonly Entry[], now: MonotonicMs): void {
    const known = this.#names.length;
    let name: string | undefined;
    for (const { flow } of entries) {
      if (flow.service === name) continue;
      name = flow.service;
      if (this.#numbers.has(name)) continue;
      this.#numbers.set(name, this.#names.length);
      this.#names.push(name);
    }
    if (this.#names.length > known) this.#say({ type: "services", names: [...this.#names] }, now);
  }
}
