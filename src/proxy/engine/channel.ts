import { type Duplex } from "node:stream";
import { type OnReadOpts, Socket, connect } from "node:net";
import { ipBytes, parseIp } from "../../base/addresses.ts";

/** What a channel tells its owner. */
export interface ChannelHandler {
  /**
   * `bytes[0, length)` came. Where `stable` is false they are overwritten after the call; where it is true
   * they stay until the next call, and so may be written elsewhere without a copy.
   */
  onBytes(bytes: Buffer, length: number, stable: boolean): void;
  onConnect(): void;
  /** The peer sends nothing more. */
  onEnd(): void;
  /** Everything that was written has gone to the kernel. */
  onDrain(): void;
  /** Once, and last. `error` is the system's code, such as ECONNRESET. */
  onClose(error: string | undefined): void;
}

/** A byte connection as the engine sees it: plain TCP, TLS, or a stream of HTTP/2. */
export interface Channel {
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Bytes that were written and have not gone to the kernel. */
  readonly pending: number;
  /**
   * Text is latin1. False where something stays pending: then the writer waits for onDrain. Bytes that are not
   * `stable` may be overwritten once this returns.
   */
  write(text: string, bytes?: Uint8Array, tail?: string, stable?: boolean): boolean;
  /**
   * Reads into a buffer of its own from the next read on (`stable` bytes), or into the shared one again;
   * `reusable` where no pending write anywhere refers to that buffer.
   */
  dedicate(on: boolean, reusable?: boolean): void;
  /**
   * A piece of this length came and is passed on: what comes in large pieces is read into a buffer of its own, so that
   * it is not copied; what comes in small ones goes through the shared buffer, and holds none between them.
   */
  passing(length: number): void;
  /** Sends FIN after what is pending. */
  end(): void;
  /** Closes at once; what is pending is lost. */
  destroy(): void;
  /** The same, so that the peer sees an error: TCP sends RST, TLS no close_notify. */
  reset(): void;
  pause(): void;
  resume(): void;
}

const READ_SIZE = 65_536;
/** A head and 64 KiB, a usual size of pieces: in one read and one write. */
const OWN_SIZE = READ_SIZE + 8_192;
/** Bytes up to which text is the cheaper way: Node writes it from its stack, without an object. */
const TEXT_LIMIT = 8_192;
const MOST_HELD = 64;
/** Connections between two messages that keep their buffer: what comes next need not be copied to be passed on. */
let held = 0;
/** One buffer for all reads that are used up within their callback. */
const shared = Buffer.allocUnsafeSlow(READ_SIZE);

/** What net.Socket takes beyond its published options: an accepted handle. */
type SocketOptions = NonNullable<ConstructorParameters<typeof Socket>[0]> & { handle?: object };

/** Plain TCP by net.Socket, read into a buffer that is not allocated per read. */
export class NetChannel implements Channel {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly socket: Socket;
  readonly #handler: ChannelHandler;
  readonly #flush: Flush;
  #own: Buffer | undefined;
  #dedicated = false;
  #held = false;
  #error: string | undefined;

  private constructor(
    handler: ChannelHandler,
    open: (onread: OnReadOpts) => Socket,
    remote?: { address: string; port: number },
  ) {
    this.#handler = handler;
    const socket = open({
      buffer: () => this.#buffer(),
      callback: (length: number, bytes: Uint8Array) => {
        this.#handler.onBytes(bytes as Buffer, length, bytes !== shared);
        return true;
      },
    });
    this.socket = socket;
    this.#flush = new Flush(socket, handler);
    this.remoteAddress = remote?.address ?? plainAddress(socket.remoteAddress ?? "");
    this.remotePort = remote?.port ?? socket.remotePort ?? 0;
    socket.on("end", () => this.#handler.onEnd());
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#error = error.code ?? error.message;
    });
    socket.on("close", () => {
      this.#letGo();
      this.#handler.onClose(this.#error);
    });
  }

  /** From a handle that the listener accepted; to be handed to its owner at once. */
  static accept(handle: object): NetChannel {
    const forward = new ForwardingHandler();
    const channel = new NetChannel(
      forward,
      (onread) =>
        new Socket({ handle, allowHalfOpen: true, readable: true, writable: true, onread } as SocketOptions),
    );
    channel.socket.setNoDelay(true);
    forward.target = nobody;
    return channel;
  }

  /** Another owner from here on. */
  handTo(handler: ChannelHandler): void {
    (this.#handler as ForwardingHandler).target = handler;
  }

  /** Gives the socket away, with `bytes` to be read from it first. The channel is over. */
  release(bytes: Uint8Array): Socket {
    this.handTo(nobody);
    this.#dedicated = true;
    this.socket.pause();
    // Whoever takes it ends with its peer: only the engine knows what half a connection is good for.
    this.socket.allowHalfOpen = false;
    if (bytes.length > 0) this.socket.unshift(bytes);
    return this.socket;
  }

  static connect(address: string, port: number, handler: ChannelHandler): NetChannel {
    const channel = new NetChannel(
      handler,
      (onread) => connect({ host: address, port, allowHalfOpen: true, noDelay: true, onread }),
      { address, port },
    );
    channel.socket.on("connect", () => handler.onConnect());
    return channel;
  }

  get pending(): number {
    return this.socket.writableLength;
  }

  write(text: string, bytes?: Uint8Array, tail = "", stable = true): boolean {
    return this.#flush.write(text, bytes, tail, stable);
  }

  dedicate(on: boolean, reusable = false): void {
    if (!on && this.#own !== undefined && reusable && (this.#held || held < MOST_HELD)) {
      if (!this.#held) held++;
      this.#held = true;
      return;
    }
    this.#dedicated = on;
    if (!on) this.#letGo();
  }

  passing(length: number): void {
    const large = length >= TEXT_LIMIT;
    if (large !== this.#dedicated) this.dedicate(large);
  }

  #letGo(): void {
    if (this.#held) held--;
    this.#held = false;
    this.#own = undefined;
  }

  end(): void {
    this.socket.end();
  }
  destroy(): void {
    this.socket.destroy();
  }
  reset(): void {
    this.socket.resetAndDestroy();
  }
  pause(): void {
    this.socket.pause();
  }
  resume(): void {
    this.socket.resume();
  }

  #buffer(): Buffer {
    if (!this.#dedicated) return shared;
    this.#own ??= Buffer.allocUnsafeSlow(OWN_SIZE);
    return this.#own;
  }
}

/** TLS, or any stream of Node's: every chunk is a buffer of its own. */
export class StreamChannel implements Channel {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly stream: Duplex;
  readonly #flush: Flush;

  constructor(stream: Duplex, remote: { address: string; port: number }, handler: ChannelHandler) {
    this.stream = stream;
    this.remoteAddress = remote.address;
    this.remotePort = remote.port;
    let code: string | undefined;
    stream.on("data", (chunk: Buffer) => handler.onBytes(chunk, chunk.length, true));
    stream.on("end", () => handler.onEnd());
    this.#flush = new Flush(stream, handler);
    stream.on("error", (error: NodeJS.ErrnoException) => {
      code = error.code ?? error.message;
    });
    stream.on("close", () => handler.onClose(code));
  }

  /** Where the owner needs the channel to exist first. */
  static over(
    stream: Duplex,
    remote: { address: string; port: number },
    handler: (channel: StreamChannel) => ChannelHandler,
  ): StreamChannel {
    const forward = new ForwardingHandler();
    const channel = new StreamChannel(stream, remote, forward);
    forward.target = handler(channel);
    return channel;
  }

  get pending(): number {
    return this.stream.writableLength;
  }
  write(text: string, bytes?: Uint8Array, tail = "", stable = true): boolean {
    return this.#flush.write(text, bytes, tail, stable);
  }
  dedicate(): void {
    // Its bytes are always stable.
  }
  passing(): void {
    // Likewise.
  }
  end(): void {
    this.stream.end();
  }
  destroy(): void {
    this.stream.destroy();
  }
  reset(): void {
    this.stream.destroy();
  }
  pause(): void {
    this.stream.pause();
  }
  resume(): void {
    this.stream.resume();
  }
}

/**
 * Writes, and tells when nothing is pending any more. Node's own "drain" comes only above a high-water mark;
 * an empty write behind the pending ones comes always, and costs nothing where nothing is pending.
 */
class Flush {
  readonly #stream: Duplex;
  readonly #handler: ChannelHandler;
  #asked = false;
  readonly #flushed = (): void => {
    this.#asked = false;
    if (this.#stream.destroyed) return;
    if (this.#stream.writableLength > 0) this.#ask();
    else this.#handler.onDrain();
  };

  constructor(stream: Duplex, handler: ChannelHandler) {
    this.#stream = stream;
    this.#handler = handler;
  }

  write(text: string, bytes: Uint8Array | undefined, tail: string, stable: boolean): boolean {
    const stream = this.#stream;
    if (bytes === undefined) {
      if (text !== "") stream.write(text, "latin1");
    } else if (bytes.length + text.length < TEXT_LIMIT) {
      stream.write(text + latin1(bytes, 0, bytes.length) + tail, "latin1");
    } else {
      stream.cork();
      if (text !== "") stream.write(text, "latin1");
      stream.write(stable ? bytes : Uint8Array.prototype.slice.call(bytes));
      if (tail !== "") stream.write(tail, "latin1");
      stream.uncork();
    }
    if (stream.writableLength === 0) return true;
    this.#ask();
    return false;
  }

  #ask(): void {
    if (this.#asked || this.#stream.writableEnded) return;
    this.#asked = true;
    this.#stream.write("", "latin1", this.#flushed);
  }
}

/** Lets the channel exist before its owner does. */
class ForwardingHandler implements ChannelHandler {
  target!: ChannelHandler;
  onBytes(bytes: Buffer, length: number, stable: boolean): void {
    this.target.onBytes(bytes, length, stable);
  }
  onConnect(): void {
    this.target.onConnect();
  }
  onEnd(): void {
    this.target.onEnd();
  }
  onDrain(): void {
    this.target.onDrain();
  }
  onClose(error: string | undefined): void {
    this.target.onClose(error);
  }
}

const nobody: ChannelHandler = {
  onBytes: () => undefined,
  onConnect: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};

/** IPv4 addresses of dual-stack sockets in their own form. */
export function plainAddress(address: string): string {
  if (!address.startsWith("::ffff:")) return address;
  const parsed = parseIp(address);
  if (!parsed.ok) return address;
  const bytes = ipBytes(parsed.value);
  return bytes[10] === 0xff && bytes[11] === 0xff ? bytes.subarray(12).join(".") : address;
}

const latin1Slice = Buffer.prototype.latin1Slice as (this: Uint8Array, start: number, end: number) => string;

/** One character a byte. */
export const latin1 = (bytes: Uint8Array, start: number, end: number): string =>
  latin1Slice.call(bytes, start, end);
