import { KernelError, type WatchHandle, check, native } from "./native.ts";
import { ERRNO, MSG, SO, SOCK, SOL } from "./constants.ts";

const READABLE = 1;
const WRITABLE = 2;

/** Room for a batch of received messages, made once and used for every read. */
export class ReceiveBatch {
  readonly slot: number;
  readonly data: Uint8Array;
  readonly names: Uint8Array | null;
  readonly controls: Uint8Array | null;
  readonly meta: Int32Array;
  readonly nameSlot: number;
  readonly controlSlot: number;

  /** `count` messages of at most `slot` bytes each; `control` bytes of ancillary data for each. */
  constructor(count: number, slot: number, control = 0, address = 28) {
    this.slot = slot;
    this.nameSlot = address;
    this.controlSlot = control;
    this.data = new Uint8Array(count * slot);
    this.names = address === 0 ? null : new Uint8Array(count * address);
    this.controls = control === 0 ? null : new Uint8Array(count * control);
    this.meta = new Int32Array(4 * count);
  }
  /** A view, overwritten by the next read. */
  message(index: number): Uint8Array {
    const start = index * this.slot;
    return this.data.subarray(start, start + Math.min(this.slot, this.meta[4 * index] ?? 0));
  }
  source(index: number): Uint8Array {
    const start = index * this.nameSlot;
    const length = Math.min(this.nameSlot, this.meta[4 * index + 1] ?? 0);
    return this.names?.subarray(start, start + length) ?? new Uint8Array();
  }
  control(index: number): Uint8Array {
    const start = index * this.controlSlot;
    const length = Math.min(this.controlSlot, this.meta[4 * index + 2] ?? 0);
    return this.controls?.subarray(start, start + length) ?? new Uint8Array();
  }
  truncated(index: number): boolean {
    return ((this.meta[4 * index + 3] ?? 0) & MSG.TRUNC) !== 0;
  }
}

export function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/**
 * A non-blocking descriptor with readiness. It must be closed by its owner; while a watch is started it
 * keeps the process alive, unless `unref` was called.
 */
export class Socket {
  readonly fd: number;
  #watch: WatchHandle | undefined;
  #referenced = true;
  #readable: (() => void) | undefined;
  #writable: (() => void) | undefined;
  #closed = false;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Throws a KernelError. The descriptor is not inherited by children. */
  static open(domain: number, type: number, protocol: number, what = "socket"): Socket {
    return new Socket(check(native().socket(domain, type | SOCK.NONBLOCK | SOCK.CLOEXEC, protocol), what));
  }

  get closed(): boolean {
    return this.#closed;
  }
  bind(address: Uint8Array, what = "bind"): this {
    check(native().bind(this.fd, address), what);
    return this;
  }
  connect(address: Uint8Array, what = "connect"): this {
    check(native().connect(this.fd, address), what);
    return this;
  }
  /** A number is passed as a 32-bit int. */
  setOption(
    level: number,
    name: number,
    value: number | Uint8Array,
    what = `setsockopt ${level}/${name}`,
  ): this {
    check(
      native().setsockopt(this.fd, level, name, typeof value === "number" ? u32Bytes(value) : value),
      what,
    );
    return this;
  }
  /** The same for an option that may be refused or unknown here: false instead of an error. */
  tryOption(level: number, name: number, value: number | Uint8Array): boolean {
    return (
      native().setsockopt(this.fd, level, name, typeof value === "number" ? u32Bytes(value) : value) >= 0
    );
  }
  intOption(level: number, name: number): number {
    const room = new Uint8Array(4);
    check(native().getsockopt(this.fd, level, name, room), `getsockopt ${level}/${name}`);
    return new DataView(room.buffer).getInt32(0, true);
  }
  name(): Uint8Array {
    const room = new Uint8Array(128);
    return room.subarray(0, Math.min(128, check(native().getsockname(this.fd, room), "getsockname")));
  }
  /** Beyond net.core.rmem_max where the process may (CAP_NET_ADMIN in the first user namespace). */
  receiveBuffer(bytes: number): this {
    if (!this.tryOption(SOL.SOCKET, SO.RCVBUFFORCE, bytes)) this.tryOption(SOL.SOCKET, SO.RCVBUF, bytes);
    return this;
  }
  sendBuffer(bytes: number): this {
    if (!this.tryOption(SOL.SOCKET, SO.SNDBUFFORCE, bytes)) this.tryOption(SOL.SOCKET, SO.SNDBUF, bytes);
    return this;
  }
  /** A kernel filter (classic BPF): what it answers 0 for never wakes us. */
  filter(instructions: Uint8Array): this {
    check(native().attachFilter(this.fd, instructions), "SO_ATTACH_FILTER");
    return this;
  }

  /** Bytes sent, or -errno: the caller decides what a failed send means. */
  send(data: Uint8Array, to: Uint8Array | null = null, control: Uint8Array | null = null): number {
    if (this.#closed) return -9; // EBADF: the number may belong to another socket by now
    return native().sendmsg(this.fd, data, MSG.DONTWAIT | MSG.NOSIGNAL, to, control);
  }
  /**
   * Reads what is there, at most one batch: how many messages, 0 where there are none. Throws a KernelError
   * for anything but EAGAIN and EINTR (ENOBUFS on netlink: messages were lost).
   */
  receive(batch: ReceiveBatch): number {
    if (this.#closed) return 0;
    const { data, slot, names, nameSlot, controls, controlSlot, meta } = batch;
    const flags = MSG.DONTWAIT | MSG.TRUNC;
    const count = native().recvmmsg(this.fd, data, slot, names, nameSlot, controls, controlSlot, meta, flags);
    if (count >= 0) return count;
    if (count === -ERRNO.EAGAIN || count === -ERRNO.EINTR) return 0;
    throw new KernelError("receive", -count);
  }

  /** Calls `ready` whenever there is something to read, an error included; undefined stops. */
  onReadable(ready: (() => void) | undefined): void {
    this.#readable = ready;
    this.#arm();
  }
  onWritable(ready: (() => void) | undefined): void {
    this.#writable = ready;
    this.#arm();
  }
  /** Whether a started watch keeps the process alive; it does from the start. */
  keepAlive(on: boolean): this {
    this.#referenced = on;
    if (this.#watch !== undefined) native().watchRef(this.#watch, on ? 1 : 0);
    return this;
  }
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#readable = undefined;
    this.#writable = undefined;
    if (this.#watch !== undefined) native().watchClose(this.#watch);
    this.#watch = undefined;
    native().close(this.fd);
  }

  #arm(): void {
    if (this.#closed) return;
    const events = (this.#readable ? READABLE : 0) | (this.#writable ? WRITABLE : 0);
    if (events === 0) {
      if (this.#watch !== undefined) native().watchStop(this.#watch);
      return;
    }
    if (this.#watch === undefined) {
      const watch = native().watchOpen(this.fd);
      if (typeof watch === "number") throw new KernelError("watch", -watch);
      this.#watch = watch;
      if (!this.#referenced) native().watchRef(watch, 0);
    }
    check(native().watchStart(this.#watch, events, this.#ready), "watch");
  }
  readonly #ready = (events: number): void => {
    // Where a socket has an error (events lost, a link that went down) libuv reports it and stops watching: the next
    // read shows the error, and the watch is begun anew, or the socket would be deaf from then on.
    if (events < 0 || (events & READABLE) !== 0) this.#readable?.();
    if (events > 0 && (events & WRITABLE) !== 0) this.#writable?.();
    if (events < 0) this.#arm();
  };
}
