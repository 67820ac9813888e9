import { lstat, unlink } from "node:fs/promises";
import { type Server, type Socket, connect, createServer } from "node:net";
import { OperationalError, messageOf } from "../base/errors.ts";
import { type Result, fail } from "../base/result.ts";
import { type Clock, type Timer, addTime, ms } from "../base/time.ts";

/** One message is one line; a longer one ends the link (a plan of hundreds of routers is far below this). */
const LINE_BYTES = 4 * 1024 * 1024;
/** What may wait for a peer that reads slowly; beyond it the link ends, and a new one starts from fresh state. */
const QUEUE_BYTES = 8 * 1024 * 1024;

export interface LinkHandlers<In> {
  /** Names what is wrong with a message; the link then ends. */
  decode(value: unknown): Result<In>;
  message(message: In): void;
  /** Exactly once, with the reason. */
  closed(reason: string): void;
}

/**
 * Messages as JSON, one per line, over a unix socket. Both sides check what they receive; queues are bounded;
 * whatever goes wrong ends the link with a reason, and the side that connected connects again.
 */
export class JsonLink<Out, In> {
  readonly #socket: Socket;
  readonly #handlers: LinkHandlers<In>;
  #partial: string[] = [];
  #partialLength = 0;
  #closed = false;

  constructor(socket: Socket, handlers: LinkHandlers<In>) {
    this.#socket = socket;
    this.#handlers = handlers;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => this.close(error.message));
    socket.on("close", () => this.close("the other side ended the connection"));
  }

  /** False where the message was not taken: the link has ended, or ends now because the peer does not read. */
  send(message: Out): boolean {
    if (this.#closed) return false;
    if (this.#socket.writableLength > QUEUE_BYTES) {
      this.close("the other side does not read");
      return false;
    }
    this.#socket.write(`${JSON.stringify(message)}\n`);
    return true;
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    this.#handlers.closed(reason);
  }

  /** Ends after what has been sent is written. */
  end(): void {
    this.#socket.end();
  }

  #receive(text: string): void {
    let rest = text;
    for (let at = rest.indexOf("\n"); at >= 0 && !this.#closed; at = rest.indexOf("\n")) {
      this.#partial.push(rest.slice(0, at));
      rest = rest.slice(at + 1);
      const line = this.#partial.join("");
      this.#partial = [];
      this.#partialLength = 0;
      this.#line(line);
    }
    if (rest === "" || this.#closed) return;
    this.#partial.push(rest);
    this.#partialLength += rest.length;
    if (this.#partialLength > LINE_BYTES) this.close(`a message of more than ${LINE_BYTES} bytes`);
  }

  #line(line: string): void {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      this.close(`a line that is not JSON: ${messageOf(error)}`);
      return;
    }
    const decoded = this.#handlers.decode(value);
    if (decoded.ok) this.#handlers.message(decoded.value);
    else this.close(`a message of the wrong shape: ${decoded.error}`);
  }
}

/** Whether a process answers on this unix socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.on("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", () => resolve(false));
  });
}

/**
 * Listens on a unix socket that only this user may open. A socket left by a process that died is replaced;
 * one that answers is somebody's, and an error, unless we `replace` it as its successor.
 */
export async function listenUnix(
  server: Server,
  path: string,
  { replace = false }: { replace?: boolean } = {},
): Promise<void> {
  const old = await lstat(path).catch(() => undefined);
  if (old !== undefined) {
    if (!old.isSocket())
      throw new OperationalError(
        "CONFLICT",
        `${path} exists and is not a socket; remove it or choose another directory`,
      );
    if (!replace && (await answers(path)))
      throw new OperationalError(
        "CONFLICT",
        `another process already serves ${path}; stop it or use another --runtime`,
      );
    await unlink(path).catch(() => undefined);
  }
  await new Promise<void>((resolve, reject) => {
    const refused = (error: Error): void =>
      reject(new OperationalError("FILE_UNREADABLE", `${path}: ${error.message}`, { cause: error }));
    server.once("error", refused);
    // The mode is set by the mask, so that there is no moment in which others could connect.
    const mask = process.umask(0o177);
    server.listen(path, () => {
      server.off("error", refused);
      resolve();
    });
    process.umask(mask);
  });
}

/** A server of links. `accept` is called per connection and gives the handlers of that link. */
export async function serveLinks<Out, In>(
  path: string,
  accept: (link: JsonLink<Out, In>) => LinkHandlers<In>,
  options: { replace?: boolean } = {},
): Promise<Server> {
  const server = createServer((socket) => {
    let handlers: LinkHandlers<In> | undefined;
    const link: JsonLink<Out, In> = new JsonLink<Out, In>(socket, {
      decode: (value) => handlers?.decode(value) ?? fail("not ready"),
      message: (message) => handlers?.message(message),
      closed: (reason) => handlers?.closed(reason),
    });
    handlers = accept(link);
  });
  await listenUnix(server, path, options);
  return server;
}

export interface LinkClientOptions<Out, In> {
  readonly path: string;
  readonly clock: Clock;
  decode(value: unknown): Result<In>;
  message(message: In): void;
  /** After every connection: send the whole state anew. */
  up(link: JsonLink<Out, In>): void;
  down(reason: string): void;
}

/** The first and the longest wait before connecting again. */
const RETRY_FIRST = 20;
const RETRY_MOST = 500;

/** Connects, and again whenever the link ends: the other side may restart at any time. */
export class LinkClient<Out, In> {
  readonly #options: LinkClientOptions<Out, In>;
  #link: JsonLink<Out, In> | undefined;
  #timer: Timer | undefined;
  #wait = RETRY_FIRST;
  #stopped = false;

  constructor(options: LinkClientOptions<Out, In>) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#link !== undefined;
  }

  start(): void {
    const socket = connect(this.#options.path);
    const early = (error: Error): void => this.#again(error.message);
    socket.once("error", early);
    socket.once("connect", () => {
      socket.off("error", early);
      if (this.#stopped) {
        socket.destroy();
        return;
      }
      this.#wait = RETRY_FIRST;
      const link = new JsonLink<Out, In>(socket, {
        decode: (value) => this.#options.decode(value),
        message: (message) => this.#options.message(message),
        closed: (reason) => {
          this.#link = undefined;
          this.#again(reason);
        },
      });
      this.#link = link;
      this.#options.up(link);
    });
  }

  send(message: Out): boolean {
    return this.#link?.send(message) ?? false;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#link?.close("stopped");
  }

  #again(reason: string): void {
    if (this.#stopped) return;
    this.#options.down(reason);
    const { clock } = this.#options;
    this.#timer = clock.setTimer(addTime(clock.monotonic(), ms(this.#wait)), () => this.start());
    this.#wait = Math.min(RETRY_MOST, this.#wait * 2);
  }
}
