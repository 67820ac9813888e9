import { isUtf8 } from "node:buffer";
import * as fs from "node:fs";
import { promisify } from "node:util";
import { messageOf } from "../../base/errors.ts";
import { type Clock, addTime, instant, ms, timeSince } from "../../base/time.ts";

const open = promisify(fs.open);
const close = promisify(fs.close);
const stat = promisify(fs.stat);
const fstat = promisify(fs.fstat);
const write = promisify<number, string, null, BufferEncoding, unknown>(fs.write);

/** One request, as the log has it. */
export interface AccessEntry {
  readonly service: string;
  readonly route: string;
  readonly client: string;
  readonly method: string;
  readonly host: string;
  readonly target: string;
  readonly version: number;
  readonly status: number;
  readonly bytes: number;
  /** Milliseconds from the head to the last byte of the response. */
  readonly took: number;
  readonly backend: string;
  readonly attempts: number;
  readonly id: string;
  readonly agent: string;
  readonly referer: string;
  /** Why the proxy itself answered or broke off; empty for an ordinary response. */
  readonly reason: string;
}

const FLUSH_AT = 65_536;
const FLUSH_EVERY = ms(500);
const LOOK_EVERY = ms(1000);
/** Text that waits for a slow disk; beyond it lines are dropped and counted. */
const MOST = 8 * 1024 * 1024;
const VERSIONS = ["HTTP/1.0", "HTTP/1.1", "HTTP/2"];

/** Bytes as text: UTF-8 where they are, else one character a byte. */
function decoded(text: string): string {
  const bytes = Buffer.from(text, "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : text;
}
const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** A JSON string of ASCII; nearly all need no escape. */
function quoted(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x22 || c === 0x5c || c < 0x20 || c > 0x7e)
      return JSON.stringify(decoded(text)).replaceAll(/[\x7f-\uffff]/g, escaped);
  }
  return `"${text}"`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (value: number): string => (value < 10 ? `0${value}` : String(value));

export interface AccessLogOptions {
  readonly clock: Clock;
  /** `-` is the standard output. */
  readonly file: string;
  readonly format: "json" | "combined";
  /** The file cannot be opened or written, told once until it can. */
  readonly onProblem: (reason: string) => void;
}

/**
 * Lines collected in memory and written in pieces of 64 KiB, or twice a second. Where the file was renamed or removed, as
 * a rotation does, the next piece goes to a new one.
 */
export class AccessLog {
  readonly #options: AccessLogOptions;
  /** -1: not open. */
  #fd = -1;
  /** When the file's name was looked at last. */
  #lookedAt = instant(Number.NEGATIVE_INFINITY);
  #text = "";
  /** A piece is on its way to the disk. */
  #writing = false;
  #timer: { cancel(): void } | undefined;
  #second = -1;
  #secondText = "";
  #ended = false;
  #troubled = false;
  /** Lines that found no room, and pieces that could not be written. */
  dropped = 0;

  constructor(options: AccessLogOptions) {
    this.#options = options;
    if (options.file === "-") this.#fd = 1;
    else this.flush();
  }

  add(entry: AccessEntry): void {
    if (this.#text.length > MOST) {
      this.dropped++;
      return;
    }
    this.#text += this.#options.format === "json" ? this.#json(entry) : this.#combined(entry);
    if (this.#text.length >= FLUSH_AT) this.flush();
    else
      this.#timer ??= this.#options.clock.setTimer(
        addTime(this.#options.clock.monotonic(), FLUSH_EVERY),
        () => this.flush(),
      );
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#writing || (this.#text === "" && this.#fd >= 0)) return;
    this.#writing = true;
    void this.#write().then((problem) => {
      this.#writing = false;
      if (problem !== undefined && !this.#troubled) this.#options.onProblem(problem);
      this.#troubled = problem !== undefined;
      if (problem === undefined && (this.#text.length >= FLUSH_AT || (this.#ended && this.#text !== "")))
        this.flush();
    });
  }
  /** Answers what went wrong. */
  async #write(): Promise<string | undefined> {
    try {
      await this.#open();
    } catch (error) {
      return messageOf(error);
    }
    const text = this.#text;
    this.#text = "";
    try {
      if (text !== "") await write(this.#fd, text, null, "latin1");
      if (this.#ended) await this.#letGo();
      return undefined;
    } catch (error) {
      this.dropped++;
      return messageOf(error);
    }
  }
  async #open(): Promise<void> {
    const { clock, file } = this.#options;
    const now = clock.monotonic();
    const before = this.#fd;
    if (file === "-" || (before >= 0 && (this.#ended || timeSince(now, this.#lookedAt) < LOOK_EVERY))) return;
    this.#lookedAt = now;
    if (before >= 0) {
      const [there, ours] = await Promise.all([stat(file).catch(() => undefined), fstat(before)]);
      if (there?.ino === ours.ino && there.dev === ours.dev) return;
    }
    this.#fd = await open(file, "a", 0o640);
    if (before >= 0) await close(before);
  }

  async #letGo(): Promise<void> {
    const fd = this.#fd;
    if (this.#options.file === "-" || fd < 0) return;
    this.#fd = -1;
    await close(fd);
  }

  /** Writes what is left, and lets go of the file; a request that ends later opens it once more. */
  end(): void {
    this.#ended = true;
    if (this.#text !== "") this.flush();
    else if (!this.#writing) void this.#letGo();
  }

  #json(e: AccessEntry): string {
    const wall = this.#options.clock.wall();
    const second = Math.floor(wall / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#secondText = new Date(second * 1000).toISOString().slice(0, 20);
    }
    const millis = wall - second * 1000;
    const fraction = millis < 10 ? `00${millis}` : millis < 100 ? `0${millis}` : String(millis);
    const why = e.reason === "" ? "" : `,"reason":${quoted(e.reason)}`;
    const more = e.attempts > 1 ? `,"attempts":${e.attempts}` : "";
    return (
      `{"time":"${this.#secondText}${fraction}Z","service":"${e.service}","route":"${e.route}","client":"${e.client}",` +
      `"method":"${e.method}","host":${quoted(e.host)},"target":${quoted(e.target)},"version":"${VERSIONS[e.version]}",` +
      `"status":${e.status},"bytes":${e.bytes},"ms":${Math.round(e.took * 1000) / 1000},"backend":"${e.backend}",` +
      `"id":${quoted(e.id)},"agent":${quoted(e.agent)}${more}${why}}\n`
    );
  }

  #combined(e: AccessEntry): string {
    const second = Math.floor(this.#options.clock.wall() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      const at = new Date(second * 1000);
      this.#secondText =
        `${two(at.getUTCDate())}/${MONTHS[at.getUTCMonth()]}/${at.getUTCFullYear()}:` +
        `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} +0000`;
    }
    // As nginx and Apache do: a line of ASCII.
    const text = (value: string): string =>
      value === ""
        ? "-"
        : value.replaceAll(
            /["\\]|[^\x20-\x7e]/g,
            (one) => `\\x${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
          );
    return (
      `${e.client} - - [${this.#secondText}] "${e.method} ${text(e.target)} ${VERSIONS[e.version]}" ` +
      `${e.status} ${e.bytes} "${text(e.referer)}" "${text(e.agent)}"\n`
    );
  }
}
