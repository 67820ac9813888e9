/**
 * A model of a kernel's connection table: what may be created, updated and deleted with which refusals, lifetimes that
 * packets renew, and the events of all that is changed by others than the flows process itself. An entry's end by
 * lifetime is said when somebody looks. It lives on without the process, and not without power.
 */
import type { EventQueue } from "../../../base/event-queue.ts";
import { type Random, chance } from "../../../base/random.ts";
import { type Flow, type FlowPlan, flowKey, tuplesSame } from "../../../linux/wire-conntrack.ts";

export type KernelEvent =
  | { readonly type: "flow"; readonly flow: Flow }
  | { readonly type: "end"; readonly flow: Flow }
  | { readonly type: "overrun" };

interface Entry extends Omit<FlowPlan, "timeout" | "tcpState"> {
  tcpState: number;
  /** ms. */
  expiresAt: number;
  readonly id: number;
}

const COLLECT = 4000;
const answerKey = ({ protocol, reply }: Pick<Flow, "protocol" | "reply">): string =>
  flowKey({ protocol, original: reply });

export class SimKernel {
  /** Of the process that listens now; events go nowhere where none does. */
  listener: ((event: KernelEvent) => void) | undefined;
  /** Everything is slow while this is ahead: the answers come then. */
  busyUntil = 0;
  /** Grows with each boot: what was in the table of an earlier one is gone. */
  boot = 1;
  /** Keys whose entry somebody else removed, and may be missing until they are put back. */
  readonly removed = new Map<string, number>();
  /** Keys whose entry made way for another with its addresses or answers. */
  readonly yielded = new Set<string>();
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #table = new Map<string, Entry>();
  /** Keys by the entries' answers: no two are alike in these either. */
  readonly #answers = new Map<string, string>();
  #events: KernelEvent[] = [];
  #delivering = false;
  #overrunUntil = 0;
  #ids = 0;

  constructor(queue: EventQueue, random: Random) {
    this.#queue = queue;
    this.#random = random;
    this.#collect();
  }
  /** Entries that nobody looks at are found in time. */
  #collect(): void {
    this.#queue.add(this.now + COLLECT, () => {
      this.#collect();
      for (const key of this.#table.keys()) this.#at(key);
    });
  }
  get now(): number {
    return this.#queue.now;
  }
  /** ms until a request is answered. */
  get latency(): number {
    return Math.max(this.busyUntil - this.now, 0) + 0.1 + this.#random.next();
  }
  powerOff(): void {
    this.#table.clear();
    this.#answers.clear();
    this.#events = [];
    this.removed.clear();
    this.yielded.clear();
    this.boot++;
  }

  // What the flows process asks for: its own changes make no events here, since it ignores them. -----------

  /** Where packets with these addresses would go. */
  backend(key: string): Flow["reply"] | undefined {
    return this.#at(key)?.reply;
  }
  get(key: string): Flow | undefined {
    const entry = this.#at(key);
    return entry && this.#flow(entry);
  }
  /** The connection that has such answers. */
  answering(flow: Pick<Flow, "protocol" | "reply">): Flow | undefined {
    const key = this.#answers.get(answerKey(flow));
    return key === undefined ? undefined : this.get(key);
  }
  /** False where one with the same addresses, or answers, is there (EEXIST). */
  create(plan: FlowPlan): boolean {
    const key = flowKey(plan);
    if (this.#at(key) !== undefined || this.answering(plan) !== undefined) return false;
    this.#put(key, plan);
    return true;
  }
  /** False where there is none (ENOENT). The translation stays as it was made. */
  update(plan: FlowPlan): boolean {
    const entry = this.#at(flowKey(plan));
    if (entry === undefined) return false;
    entry.tcpState = plan.tcpState;
    entry.expiresAt = this.now + plan.timeout * 1000;
    return true;
  }
  prolong(plan: FlowPlan): boolean {
    const entry = this.#at(flowKey(plan));
    if (entry === undefined) return false;
    entry.expiresAt = this.now + plan.timeout * 1000;
    return true;
  }
  /** For another one with its answers. */
  yield(flow: Pick<Flow, "protocol" | "original">): void {
    this.yielded.add(flowKey(flow));
    this.delete(flow);
  }
  delete(flow: Pick<Flow, "protocol" | "original">): boolean {
    return this.#forget(flowKey(flow)) !== undefined;
  }
  /** A listing takes its time: one half of the buckets is read before the other. */
  list(half: 0 | 1): Flow[] {
    const flows: Flow[] = [];
    for (const [key, entry] of this.#table)
      if (entry.original.sourcePort % 2 === half && this.#at(key) !== undefined)
        flows.push(this.#flow(entry));
    return flows;
  }
  /** What has happened and was not read yet is read now. */
  drain(): void {
    for (const event of this.#events.splice(0)) this.listener?.(event);
  }
  *keys(): Iterable<string> {
    for (const key of this.#table.keys()) if (this.#at(key) !== undefined) yield key;
  }

  // What packets and others do -----------------------------------------------------------------------------

  /** A packet of this connection: false where its entry is not there, or leads to another backend. */
  touch(flow: Flow): boolean {
    const entry = this.#at(flowKey(flow));
    if (entry === undefined || !tuplesSame(entry.reply, flow.reply)) return false;
    entry.expiresAt = Math.max(entry.expiresAt, this.now + flow.timeout * 1000);
    return true;
  }
  /** A new connection is assured, or has another state; whatever closed one had its addresses gives way. */
  packet(flow: Flow): void {
    const key = flowKey(flow);
    const entry = this.#at(key);
    if (entry !== undefined && tuplesSame(entry.reply, flow.reply)) {
      entry.tcpState = flow.tcpState;
      entry.expiresAt = this.now + flow.timeout * 1000;
      this.#say({ type: "flow", flow: this.#flow(entry) });
      return;
    }
    if (entry !== undefined) this.remove(key);
    const made = this.#put(key, flow);
    // Where two processors handle its packets at once, the first event may come without the state.
    const said = this.#flow(made);
    const stateless = said.tcpState > 0 && chance(this.#random, 0.05);
    this.#say({ type: "flow", flow: stateless ? { ...said, tcpState: 0 } : said });
  }
  remove(key: string): void {
    const entry = this.#forget(key);
    if (entry !== undefined) this.#say({ type: "end", flow: this.#flow(entry) });
  }
  /** What nobody has read yet is lost, and so is what comes for a while; then it is said. */
  overrun(span: number): void {
    this.#events = [];
    this.#overrunUntil = this.now + span;
    this.#queue.add(this.now + span, () => this.#say({ type: "overrun" }));
  }
  get overrunning(): boolean {
    return this.now < this.#overrunUntil;
  }

  #put(key: string, plan: FlowPlan): Entry {
    const { family, protocol, original, reply, mark, tcpState, windowScales, timeout } = plan;
    const expiresAt = this.now + timeout * 1000;
    const id = ++this.#ids;
    const made = { family, protocol, original, reply, mark, tcpState, windowScales, expiresAt, id };
    this.#table.set(key, made);
    this.#answers.set(answerKey(made), key);
    this.removed.delete(key);
    this.yielded.delete(key);
    return made;
  }
  #forget(key: string): Entry | undefined {
    const entry = this.#table.get(key);
    if (entry === undefined) return undefined;
    this.#table.delete(key);
    this.#answers.delete(answerKey(entry));
    return entry;
  }
  #at(key: string): Entry | undefined {
    const entry = this.#table.get(key);
    if (entry === undefined || entry.expiresAt > this.now) return entry;
    this.remove(key);
    return undefined;
  }
  #flow(entry: Entry): Flow {
    // Written out: spreading was half of all the time.
    const { family, protocol, original, reply, mark, tcpState, windowScales, id } = entry;
    const timeout = Math.max(0, Math.ceil((entry.expiresAt - this.now) / 1000));
    const rest = { status: 0, packets: 0, bytes: 0 };
    return { family, protocol, original, reply, mark, timeout, tcpState, windowScales, id, ...rest };
  }
  #say(event: KernelEvent): void {
    if (this.listener === undefined) return;
    if (this.overrunning) return;
    this.#events.push(event);
    if (this.#delivering) return;
    this.#delivering = true;
    const wait = chance(this.#random, 0.05) ? this.#random.next() * 30 : this.#random.next();
    this.#queue.add(this.now + wait, () => {
      this.#delivering = false;
      this.drain();
    });
  }
}
