import { OperationalError } from "../base/errors.ts";
import { type Clock, type DurationMs, type Timer, addTime, ms } from "../base/time.ts";
import { AF, ERRNO, NETLINK, SOCK, SOL } from "./constants.ts";
import { KernelError } from "./native.ts";
import { ReceiveBatch, Socket } from "./socket.ts";
import {
  NLM_F,
  NLMSG,
  type NetlinkAnswer,
  type NetlinkMessage,
  NetlinkWriter,
  decodeAnswer,
  decodeMessages,
} from "./wire-netlink.ts";
import { netlinkAddress, readNetlinkPort } from "./wire-sockaddr.ts";

export interface NetlinkOptions {
  /** NETLINK.ROUTE or NETLINK.NETFILTER. */
  readonly protocol: number;
  readonly clock: Clock;
  /** Multicast groups (numbers, not masks) whose messages come to `onEvent`. */
  readonly groups?: readonly number[];
  /** A kernel filter (classic BPF) for a socket that only hears events. */
  readonly filter?: Uint8Array;
  /** Called for every message that answers no request. Its payload is a view: copy what is kept. */
  readonly onEvent?: (message: NetlinkMessage) => void;
  /** Events were lost: what is known of the kernel's state must be read anew. */
  readonly onOverrun?: () => void;
  /** Bytes; beyond net.core.rmem_max where the process may. */
  readonly receiveBuffer?: number;
  /** How long the kernel may take for an answer. */
  readonly timeout?: DurationMs;
}

/** A message to be sent: `body` follows the header (made with a NetlinkWriter without `begin`). */
export interface NetlinkRequest {
  readonly type: number;
  /** Besides NLM_F.REQUEST and NLM_F.ACK. */
  readonly flags?: number;
  readonly body: Uint8Array;
}

/** Messages of one kind, to be sent in one datagram. */
export interface NetlinkBatch {
  readonly type: number;
  /** Besides NLM_F.REQUEST and, for the last, NLM_F.ACK. */
  readonly flags: number;
  readonly count: number;
  /** Writes the body of one; its header stands already. */
  readonly write: (index: number, writer: NetlinkWriter) => void;
}

/** The kernel's refusal of one message of a batch; `index` counts from 0. */
export interface BatchRefusal extends NetlinkAnswer {
  readonly index: number;
}

interface Pending {
  readonly what: string;
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly send: () => Uint8Array;
  /** A reply that is neither an acknowledgement nor the end of a dump. */
  readonly onReply: (message: NetlinkMessage) => void;
  /** Answers whether the request is over. */
  readonly onAnswer: (answer: NetlinkAnswer, seq: number) => boolean;
  /** After everything that was there has been read. */
  readonly onDrained?: () => boolean;
  readonly onDone: (interrupted: boolean) => void;
  readonly reject: (error: OperationalError) => void;
  interrupted: boolean;
}

// Reads are synchronous, so all sockets of a process share the room for them; a second piece is made only
// when a handler talks to another socket in the middle of a read. 32 KiB is what the kernel fills at most
// in a dump (netlink_recvmsg), 64 KiB what a single message's attribute can hold.
const spareRoom: ReceiveBatch[] = [];
/** Sending is synchronous as well. */
const batchRoom = new NetlinkWriter(32_768);
const SLOTS = 8;
const SLOT_BYTES = 65536;
/** Batches read in a row before the event loop gets its turn. */
const READS_IN_A_ROW = 32;
/** A dump during which the table changed is repeated this often before it is passed on as it is. */
const DUMP_ATTEMPTS = 5;

/**
 * A netlink socket: requests one after another, each with a sequence number and a deadline; dumps; batches;
 * multicast events. The kernel carries a request out within the system call that sends it, and its answer is
 * read right after: a promise of an ordinary request is settled before the caller's next turn.
 */
export class NetlinkSocket {
  readonly portid: number;
  readonly #socket: Socket;
  readonly #options: NetlinkOptions;
  readonly #queue: Pending[] = [];
  #current: Pending | undefined;
  #deadline: Timer | undefined;
  #seq: number;
  #sendBuffer = 212_992;
  #draining = false;
  #overruns = 0;
  #foreign = 0;

  private constructor(socket: Socket, options: NetlinkOptions) {
    this.#socket = socket;
    this.#options = options;
    this.portid = readNetlinkPort(socket.name()) ?? 0;
    // Not 0, which events carry; the rest is free.
    this.#seq = 1;
  }

  static open(options: NetlinkOptions): NetlinkSocket {
    const socket = Socket.open(AF.NETLINK, SOCK.RAW, options.protocol, "netlink socket");
    try {
      socket.bind(netlinkAddress(), "netlink bind").keepAlive(false);
      socket.receiveBuffer(options.receiveBuffer ?? 1 << 20);
      socket.tryOption(SOL.NETLINK, NETLINK.EXT_ACK, 1);
      socket.tryOption(SOL.NETLINK, NETLINK.CAP_ACK, 1);
      if (options.filter !== undefined) socket.filter(options.filter);
      const opened = new NetlinkSocket(socket, options);
      for (const group of options.groups ?? []) opened.subscribe(group);
      socket.onReadable(() => opened.#drain());
      return opened;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** How often events or answers were lost for want of room, and messages that the kernel did not send. */
  get counters(): { readonly overruns: number; readonly foreign: number } {
    return { overruns: this.#overruns, foreign: this.#foreign };
  }
  get descriptor(): number {
    return this.#socket.fd;
  }
  subscribe(group: number): void {
    this.#socket.setOption(SOL.NETLINK, NETLINK.ADD_MEMBERSHIP, group, `netlink group ${group}`);
  }
  unsubscribe(group: number): void {
    this.#socket.setOption(SOL.NETLINK, NETLINK.DROP_MEMBERSHIP, group, `netlink group ${group}`);
  }
  /** An option of level SOL_NETLINK that this kernel may lack: false then. */
  tryOption(name: number, value: number): boolean {
    return this.#socket.tryOption(SOL.NETLINK, name, value);
  }
  /** Reads what has come now, before the event loop would: after a stall, events count before timers. */
  drain(): void {
    this.#drain();
  }

  /**
   * Sends one request and resolves with the replies that came before its acknowledgement (none for most
   * changes, one for a get). Rejects with a KernelError that says `what` and what the kernel says.
   */
  request(what: string, request: NetlinkRequest): Promise<NetlinkMessage[]> {
    return new Promise((resolve, reject) => {
      const replies: NetlinkMessage[] = [];
      const seq = this.#take(1);
      const flags = (request.flags ?? 0) | NLM_F.REQUEST | NLM_F.ACK;
      this.#enqueue({
        what,
        firstSeq: seq,
        lastSeq: seq,
        send: () => this.#encode([request], seq, () => flags),
        onReply: (message) => replies.push(keep(message)),
        onAnswer: (answer) => {
          if (answer.errno === 0) resolve(replies);
          else reject(refusal(what, answer));
          return true;
        },
        onDone: () => resolve(replies),
        reject,
        interrupted: false,
      });
    });
  }

  /** Everything of a table. Repeated where it changed meanwhile, so that the answer is one state. */
  async dump(what: string, request: NetlinkRequest): Promise<NetlinkMessage[]> {
    for (let attempt = 1; ; attempt++) {
      const replies: NetlinkMessage[] = [];
      const interrupted = await this.dumpEach(what, request, (message) => replies.push(keep(message)));
      if (!interrupted || attempt === DUMP_ATTEMPTS) return replies;
    }
  }

  /**
   * The same, one message at a time (views: copy what is kept). Resolves with whether the table changed
   * meanwhile, so that entries may be missing or come twice.
   */
  dumpEach(
    what: string,
    request: NetlinkRequest,
    visit: (message: NetlinkMessage) => void,
  ): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const seq = this.#take(1);
      const flags = (request.flags ?? 0) | NLM_F.REQUEST | NLM_F.DUMP;
      this.#enqueue({
        what,
        firstSeq: seq,
        lastSeq: seq,
        send: () => this.#encode([request], seq, () => flags),
        onReply: visit,
        onAnswer: (answer) => {
          if (answer.errno === 0) return false;
          reject(refusal(what, answer));
          return true;
        },
        onDone: resolve,
        reject,
        interrupted: false,
      });
    });
  }

  /**
   * Sends many messages in one datagram and resolves with those that the kernel refused. Only the last one
   * that counts (`acknowledge`, by default the last of all) asks for an acknowledgement. For nf_tables, wrap
   * them in NFNL_MSG_BATCH_BEGIN and _END and point `acknowledge` at the last between: they then take effect
   * together or not at all.
   */
  batch(
    what: string,
    requests: readonly NetlinkRequest[],
    acknowledge = requests.length - 1,
  ): Promise<readonly BatchRefusal[]> {
    const encode = (first: number): Uint8Array =>
      this.#encode(
        requests,
        first,
        (index, flags) => flags | NLM_F.REQUEST | (index === acknowledge ? NLM_F.ACK : 0),
      );
    return this.#sendBatch(what, requests.length, acknowledge, encode);
  }

  /** The same for many messages of one kind, each written where it is sent from. */
  batchOf(what: string, messages: NetlinkBatch): Promise<readonly BatchRefusal[]> {
    const { type, count, write } = messages;
    const flags = messages.flags | NLM_F.REQUEST;
    return this.#sendBatch(what, count, count - 1, (first) => {
      const writer = batchRoom.reset();
      for (let i = 0; i < count; i++) {
        writer.begin(type, i === count - 1 ? flags | NLM_F.ACK : flags, first + i, this.portid);
        write(i, writer);
        writer.end();
      }
      return writer.finish();
    });
  }

  /** What `encode` answers is sent at once, within the call. */
  #sendBatch(
    what: string,
    count: number,
    acknowledge: number,
    encode: (firstSeq: number) => Uint8Array,
  ): Promise<readonly BatchRefusal[]> {
    if (count === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const refused: BatchRefusal[] = [];
      const first = this.#take(count);
      this.#enqueue({
        what,
        firstSeq: first,
        lastSeq: first + count - 1,
        send: () => encode(first),
        onReply: () => undefined,
        onAnswer: (answer, seq) => {
          const index = seq - first;
          if (answer.errno !== 0) refused.push({ ...answer, index });
          if (index !== acknowledge) return false;
          resolve(refused);
          return true;
        },
        // A batch that failed as a whole is answered at its beginning only. The kernel has answered all of
        // it within sendmsg, so what is not there now does not come.
        onDrained: () => {
          if (refused.length === 0) return false;
          resolve(refused);
          return true;
        },
        onDone: () => resolve(refused),
        reject,
        interrupted: false,
      });
    });
  }

  close(): void {
    if (this.#socket.closed) return;
    this.#socket.close();
    const error = new OperationalError("PEER_LOST", "the netlink socket was closed");
    this.#finish();
    const waiting = [this.#current, ...this.#queue.splice(0)];
    this.#current = undefined;
    for (const pending of waiting) pending?.reject(error);
  }

  #take(count: number): number {
    // 31 bits are enough before it starts again; a batch never spans the wrap.
    if (this.#seq + count >= 0x7fffffff) this.#seq = 1;
    const first = this.#seq;
    this.#seq += count;
    return first;
  }

  #encode(
    requests: readonly NetlinkRequest[],
    first: number,
    flagsOf: (index: number, flags: number) => number,
  ): Uint8Array {
    let size = 0;
    for (const { body } of requests) size += 20 + body.length;
    const writer = new NetlinkWriter(size);
    requests.forEach(({ type, flags, body }, index) => {
      writer
        .begin(type, flagsOf(index, flags ?? 0), first + index, this.portid)
        .bytes(body)
        .end();
    });
    return writer.finish();
  }

  #enqueue(pending: Pending): void {
    if (this.#socket.closed) {
      pending.reject(new OperationalError("PEER_LOST", "the netlink socket was closed"));
      return;
    }
    this.#queue.push(pending);
    if (this.#current === undefined) this.#next();
  }

  #next(): void {
    for (;;) {
      if (this.#current !== undefined) return;
      const pending = this.#queue.shift();
      if (pending === undefined) return;
      const datagram = pending.send();
      // The kernel refuses a datagram that is larger than the send buffer (EMSGSIZE).
      if (datagram.length * 2 > this.#sendBuffer) {
        this.#sendBuffer = datagram.length * 4;
        this.#socket.sendBuffer(this.#sendBuffer);
      }
      this.#current = pending;
      const sent = this.#socket.send(datagram, kernel);
      if (sent < 0) {
        this.#current = undefined;
        pending.reject(new KernelError(pending.what, -sent));
        continue;
      }
      this.#drain();
      if (this.#current === pending) this.#arm(pending);
    }
  }

  #arm(pending: Pending): void {
    this.#deadline?.cancel();
    const span = this.#options.timeout ?? ms(5000);
    const { clock } = this.#options;
    this.#deadline = clock.setTimer(addTime(clock.monotonic(), span), () => {
      // A stalled process finds the answer waiting: read before judging.
      this.#drain();
      if (this.#current !== pending) return;
      this.#settle();
      pending.reject(
        new OperationalError("TIMEOUT", `${pending.what}: no answer from the kernel within ${span} ms`, {
          retryable: true,
        }),
      );
      this.#next();
    });
  }

  #finish(): void {
    this.#deadline?.cancel();
    this.#deadline = undefined;
  }
  #settle(): void {
    this.#finish();
    this.#current = undefined;
  }

  #drain(): void {
    if (this.#draining || this.#socket.closed) return;
    this.#draining = true;
    const room = spareRoom.pop() ?? new ReceiveBatch(SLOTS, SLOT_BYTES, 0, 12);
    let empty = false;
    try {
      for (let reads = 0; reads < READS_IN_A_ROW && !empty; reads++) {
        const count = this.#receive(room);
        for (let i = 0; i < count; i++) this.#onDatagram(room, i);
        empty = count === 0;
      }
    } finally {
      spareRoom.push(room);
      this.#draining = false;
    }
    if (empty && this.#current?.onDrained?.() === true) this.#settle();
    if (this.#current === undefined) this.#next();
  }

  #receive(room: ReceiveBatch): number {
    try {
      return this.#socket.receive(room);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOBUFS) throw error;
      this.#overrun();
      return this.#receive(room);
    }
  }

  #overrun(): void {
    this.#overruns++;
    const pending = this.#current;
    if (pending !== undefined) {
      this.#settle();
      pending.reject(
        new OperationalError("KERNEL_BUSY", `${pending.what}: the answer was lost (ENOBUFS)`, {
          retryable: true,
        }),
      );
    }
    this.#options.onOverrun?.();
  }

  #onDatagram(room: ReceiveBatch, index: number): void {
    // Any process may send to our port; only port 0 is the kernel.
    if (readNetlinkPort(room.source(index)) !== 0) {
      this.#foreign++;
      return;
    }
    if (room.truncated(index)) {
      this.#overrun();
      return;
    }
    for (const message of decodeMessages(room.message(index)).messages) {
      if (this.#socket.closed) return;
      const current = this.#current;
      const ours = message.portid === this.portid && message.seq !== 0;
      if (!ours) this.#options.onEvent?.(message);
      // An answer to a request that was given up is dropped.
      else if (current !== undefined && message.seq >= current.firstSeq && message.seq <= current.lastSeq)
        this.#onReply(current, message);
    }
  }

  #onReply(current: Pending, message: NetlinkMessage): void {
    if ((message.flags & NLM_F.DUMP_INTR) !== 0) current.interrupted = true;
    if (message.type === NLMSG.ERROR) {
      const answer = decodeAnswer(message);
      if (answer !== undefined && current.onAnswer(answer, message.seq)) this.#settle();
    } else if (message.type === NLMSG.DONE) {
      // A dump that failed on its way says so here.
      const answer = decodeAnswer(message);
      if (answer !== undefined && answer.errno > 0) current.onAnswer(answer, message.seq);
      else current.onDone(current.interrupted);
      this.#settle();
    } else if (message.type !== NLMSG.NOOP) {
      current.onReply(message);
    }
  }
}

const kernel = netlinkAddress(0);
const keep = (message: NetlinkMessage): NetlinkMessage => ({ ...message, payload: message.payload.slice() });
export const refusal = (what: string, answer: NetlinkAnswer): KernelError =>
  new KernelError(what, answer.errno, answer.text);
