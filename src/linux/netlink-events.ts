import { type Clock, type DurationMs, type Timer, addTime, timeSince, instant } from "../base/time.ts";
import { AF, ERRNO, NETLINK, SOCK, SOL } from "./constants.ts";
import { KernelError } from "./native.ts";
import { ReceiveBatch, Socket } from "./socket.ts";
import { netlinkAddress } from "./wire-sockaddr.ts";

export interface NetlinkEventOptions {
  /** NETLINK.NETFILTER or another. */
  readonly protocol: number;
  readonly clock: Clock;
  /** Multicast groups (numbers, not masks). */
  readonly groups: readonly number[];
  /** A kernel filter (classic BPF). */
  readonly filter?: Uint8Array;
  /** Bytes; beyond net.core.rmem_max where the process may. */
  readonly receiveBuffer: number;
  /**
   * Where reads follow one another faster than this, the next comes only so much later, and takes all that gathered
   * until then. One that comes alone is read at once, and with 0 each. Asked for at each read.
   */
  readonly gather: () => DurationMs;
  /** One message: its payload lies in `bytes` from `start` to `stop` and is overwritten afterwards. */
  readonly onEvent: (bytes: Uint8Array, start: number, stop: number, type: number, portid: number) => void;
  /** After one or more events: nothing more waits, or others get their turn first. */
  readonly onRead?: (() => void) | undefined;
  /**
   * Events were lost: what is known of the kernel's state must be read anew. Those that waited before are not told: they
   * are older than what is read now.
   */
  readonly onOverrun: () => void;
}

const HEADER = 16;
/** An event is well below a kilobyte; each comes as a datagram of its own, and a system call takes so many. */
const SLOTS = 64;
const SLOT_BYTES = 4096;
/** Gathering ends after so many reads that found nothing: to watch the socket and not to costs as much as a read. */
const EMPTY_READS = 4;
/** Reads in a row before the event loop gets its turn. */
const READS_IN_A_ROW = 64;
/** Reads are synchronous, so that all sockets share the room. */
let room: ReceiveBatch | undefined;

/** A netlink socket that only hears events, tens of thousands a second: nothing is made for each but what its handler makes. */
export class NetlinkEvents {
  readonly #socket: Socket;
  readonly #options: NetlinkEventOptions;
  #reading = false;
  #readAt = instant(Number.NEGATIVE_INFINITY);
  #gathering: Timer | undefined;
  /** Some were lost; until nothing waits any more the kernel adds none, and all that does is older than those. */
  #stale = false;
  #overruns = 0;
  #foreign = 0;

  private constructor(socket: Socket, options: NetlinkEventOptions) {
    this.#socket = socket;
    this.#options = options;
  }
  static open(options: NetlinkEventOptions): NetlinkEvents {
    const socket = Socket.open(AF.NETLINK, SOCK.RAW, options.protocol, "netlink socket");
    try {
      socket.bind(netlinkAddress(), "netlink bind").keepAlive(false);
      socket.receiveBuffer(options.receiveBuffer);
      if (options.filter !== undefined) socket.filter(options.filter);
      for (const group of options.groups)
        socket.setOption(SOL.NETLINK, NETLINK.ADD_MEMBERSHIP, group, `netlink group ${group}`);
      const events = new NetlinkEvents(socket, options);
      socket.onReadable(() => events.#onReadable());
      return events;
    } catch (error) {
      socket.close();
      throw error;
    }
  }
  /** How often events were lost for want of room, and messages that the kernel did not send. */
  get counters(): { readonly overruns: number; readonly foreign: number } {
    return { overruns: this.#overruns, foreign: this.#foreign };
  }
  /** Reads what has come now, or a good part of it, before the event loop would. False where there may be more. */
  drain(): boolean {
    if (this.#gathering !== undefined && !this.#reading) {
      // The next read is so much later than this one, not than the one before.
      this.#gathering.cancel();
      this.#gather(0);
    }
    return this.#read() < SLOTS * READS_IN_A_ROW && !this.#stale;
  }
  close(): void {
    this.#gathering?.cancel();
    this.#socket.close();
  }

  #onReadable(): void {
    const { clock, gather } = this.#options;
    const since = timeSince(clock.monotonic(), this.#readAt);
    this.#read();
    this.#readAt = clock.monotonic();
    if (since > 2 * gather() || this.#socket.closed) return;
    this.#socket.onReadable(undefined);
    this.#gather(0);
  }
  /** Deaf for a moment; then reads, and goes on so while there is something now and then. */
  #gather(empty: number): void {
    const { clock, gather } = this.#options;
    const span = gather();
    this.#gathering = undefined;
    if (span === 0) {
      this.#socket.onReadable(() => this.#onReadable());
      return;
    }
    this.#gathering = clock.setTimer(addTime(clock.monotonic(), span), () => {
      this.#gathering = undefined;
      const found = this.#read();
      this.#readAt = clock.monotonic();
      if (this.#socket.closed) return;
      if (found === 0 && empty + 1 === EMPTY_READS) this.#socket.onReadable(() => this.#onReadable());
      else this.#gather(found === 0 ? empty + 1 : 0);
    });
  }

  /** Answers how many datagrams there were. */
  #read(): number {
    if (this.#reading || this.#socket.closed) return 0;
    this.#reading = true;
    const into = (room ??= new ReceiveBatch(SLOTS, SLOT_BYTES, 0, 12));
    let total = 0;
    try {
      for (let reads = 0; reads < READS_IN_A_ROW; reads++) {
        const count = this.#receive(into);
        for (let i = 0; i < count && !this.#socket.closed; i++) this.#onDatagram(into, i);
        total += count;
        if (count === SLOTS) continue;
        // Fewer than asked for: it was empty, and what comes from now on wakes us.
        if (this.#stale) {
          this.#stale = false;
          this.#options.onOverrun();
        }
        break;
      }
    } finally {
      this.#reading = false;
    }
    if (total > 0) this.#options.onRead?.();
    return total;
  }

  #receive(into: ReceiveBatch): number {
    try {
      return this.#socket.receive(into);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOBUFS) throw error;
      this.#overrun();
      return this.#receive(into);
    }
  }
  #overrun(): void {
    if (!this.#stale) this.#overruns++;
    this.#stale = true;
  }

  #onDatagram({ data, slot, names, nameSlot, meta }: ReceiveBatch, index: number): void {
    const name = index * nameSlot + 4;
    // Any process may send to our port; only port 0 is the kernel.
    const fromKernel =
      names !== null &&
      (meta[4 * index + 1] ?? 0) >= 8 &&
      ((names[name] ?? 1) | (names[name + 1] ?? 1) | (names[name + 2] ?? 1) | (names[name + 3] ?? 1)) === 0;
    if (!fromKernel) {
      this.#foreign++;
      return;
    }
    const length = meta[4 * index] ?? 0;
    if (length > slot) {
      this.#overrun();
      return;
    }
    const begin = index * slot;
    const end = begin + length;
    if (this.#stale) return;
    for (let at = begin; end - at >= HEADER;) {
      const size = u32At(data, at);
      if (size < HEADER || size > end - at) return;
      const type = (data[at + 4] ?? 0) | ((data[at + 5] ?? 0) << 8);
      this.#options.onEvent(data, at + HEADER, at + size, type, u32At(data, at + 12));
      at += (size + 3) & ~3;
    }
  }
}

/** In host order, which is little endian on every machine that this program supports. */
const u32At = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] ?? 0) |
    ((bytes[at + 1] ?? 0) << 8) |
    ((bytes[at + 2] ?? 0) << 16) |
    ((bytes[at + 3] ?? 0) << 24)) >>>
  0;
