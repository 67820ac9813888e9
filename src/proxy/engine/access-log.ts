import { open, write } from "node:fs";
import type { Clock } from "../../base/time.ts";

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
const FLUSH_EVERY_MS = 500;
/** Text that waits for a slow disk; beyond it lines are dropped and counted. */
const MOST = 8 * 1024 * 1024;
const VERSIONS = ["HTTP/1.0", "HTTP/1.1", "HTTP/2"];

/** A JSON string; nearly all need no escape. */
function quoted(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x22 || c === 0x5c || c < 0x20 || c > 0x7e) return JSON.stringify(text);
  }
  return `"${text}"`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (value: number): string => (value < 10 ? `0${value}` : String(value));

/** Lines collected in memory and written in pieces of 64 KiB, or twice a second. */
export class AccessLog {
  readonly #clock: Clock;
  readonly #format: "json" | "combined";
  readonly #path: string;
  #fd = -1;
  #text = "";
  #writing = "";
  #timer: { cancel(): void } | undefined;
  #second = -1;
  #secondText = "";
  #ended = false;
  dropped = 0;

  constructor(clock: Clock, path: string, format: "json" | "combined") {
    this.#clock = clock;
    this.#format = format;
    this.#path = path;
    if (path === "-") this.#fd = 1;
    else this.reopen();
  }

  /** Opens the file again: after it was renamed by a log rotation. */
  reopen(): void {
    if (this.#path === "-") return;
    open(this.#path, "a", 0o640, (error, fd) => {
      if (!error) this.#fd = fd;
      if (!error && this.#text.length > 0) this.flush();
    });
  }

  add(entry: AccessEntry): void {
    if (this.#text.length > MOST) {
      this.dropped++;
      return;
    }
    this.#text += this.#format === "json" ? this.#json(entry) : this.#combined(entry);
    if (this.#text.length >= FLUSH_AT) this.flush();
    else
      this.#timer ??= this.#clock.setTimer((this.#clock.monotonic() + FLUSH_EVERY_MS) as never, () =>
        this.flush(),
      );
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#writing !== "" || this.#text === "" || this.#fd < 0) return;
    this.#writing = this.#text;
    this.#text = "";
    write(this.#fd, this.#writing, null, "latin1", (error) => {
      if (error) this.dropped++;
      this.#writing = "";
      if (this.#text.length >= FLUSH_AT || this.#ended) this.flush();
    });
  }

  /** Writes what is left, without keeping the process alive for more. */
  end(): void {
    this.#ended = true;
    this.flush();
  }

  #json(e: AccessEntry): string {
    const wall = this.#clock.wall();
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
    const second = Math.floor(this.#clock.wall() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      const at = new Date(second * 1000);
      this.#secondText =
        `${two(at.getUTCDate())}/${MONTHS[at.getUTCMonth()]}/${at.getUTCFullYear()}:` +
        `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())} +0000`;
    }
    const text = (value: string): string =>
      value === "" ? "-" : value.replaceAll(/["\\]|[^\x20-\xff]/g, "_");
    return (
      `${e.client} - - [${this.#secondText}] "${e.method} ${text(e.target)} ${VERSIONS[e.version]}" ` +
      `${e.status} ${e.bytes} "${text(e.referer)}" "${text(e.agent)}"\n`
    );
  }
}
