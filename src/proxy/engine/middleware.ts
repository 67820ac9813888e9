import type { ProxyReply, ProxyRequest, ProxyResponse } from "../../contracts/site.ts";
import type { RoutePlan } from "../plan.ts";
import type { Head } from "../http1/wire-head.ts";
import type { EngineCore } from "./ports.ts";

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
/** What a middleware may not set: it would change how the message is framed. */
const OURS = new Set([
  "content-length",
  "transfer-encoding",
  "connection",
  "upgrade",
  "host",
  "keep-alive",
  "te",
]);

function checkStatus(status: number): void {
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new TypeError(`${status} is not the status of an answer`);
}

function check(name: string, value: string): void {
  if (!NAME.test(name)) throw new TypeError(`"${name}" is not a header's name`);
  if (OURS.has(name.toLowerCase())) throw new TypeError(`${name} is the proxy's to set`);
  if (!VALUE.test(value)) throw new TypeError(`the value of ${name} has characters that no header may have`);
}

/** The exchange as its middleware's view sees it. */
export interface MiddlewareHost {
  readonly head: Head;
  readonly host: string;
  readonly scheme: "http" | "https";
  readonly client: string;
  readonly id: string;
  readonly route: RoutePlan | undefined;
  readonly finished: boolean;
  target: string;
  view: MiddlewareView | undefined;
  reply(status: number, reason: string, lines?: string, body?: string | Uint8Array): void;
  proceed(): void;
  flushRequest(): void;
}

/** What the middleware of one request sees, and what it changed. */
export class MiddlewareView implements ProxyRequest {
  readonly #exchange: MiddlewareHost;
  readonly #engine: EngineCore;
  /** Its own: a middleware that is late must not read the client's next request. */
  readonly #head: Head;
  readonly #set = new Map<string, string>();
  readonly #removed = new Set<string>();
  readonly editors: ((response: ProxyResponse) => void)[] = [];
  readonly controller = new AbortController();
  dropped: string[] | undefined;
  lines = "";
  #timer: { cancel(): void } | undefined;

  constructor(exchange: MiddlewareHost, engine: EngineCore) {
    this.#exchange = exchange;
    this.#engine = engine;
    this.#head = exchange.head.clone();
  }

  get method(): string {
    return this.#head.method;
  }
  get target(): string {
    return this.#exchange.target;
  }
  set target(value: string) {
    if (!/^\/[\x21-\x22\x24-\x7e]*$/.test(value)) throw new TypeError(`"${value}" is not a path`);
    this.#exchange.target = value;
  }
  get host(): string {
    return this.#exchange.host;
  }
  get scheme(): "http" | "https" {
    return this.#exchange.scheme;
  }
  get client(): string {
    return this.#exchange.client;
  }
  get id(): string {
    return this.#exchange.id;
  }
  get route(): string {
    return this.#exchange.route?.name ?? "";
  }
  header(name: string): string | undefined {
    const lower = name.toLowerCase();
    const set = this.#set.get(lower);
    if (set !== undefined) return set;
    if (this.#removed.has(lower)) return undefined;
    const head = this.#head;
    const id = this.#engine.names.known(lower);
    if (id !== 0) return head.all(id);
    const values: string[] = [];
    for (let at = 0; at < head.count * 6; at += 6)
      if (head.nameAt(at).toLowerCase() === lower) values.push(head.valueAt(at));
    return values.length === 0 ? undefined : values.join(", ");
  }
  setHeader(name: string, value: string): void {
    check(name, value);
    this.#set.set(name.toLowerCase(), value);
    this.#removed.add(name.toLowerCase());
    this.#compile();
  }
  removeHeader(name: string): void {
    check(name, "");
    this.#set.delete(name.toLowerCase());
    this.#removed.add(name.toLowerCase());
    this.#compile();
  }
  onResponse(edit: (response: ProxyResponse) => void): void {
    this.editors.push(edit);
  }

  #compile(): void {
    this.dropped = [...this.#removed];
    this.lines = [...this.#set].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  }

  /** The response's field lines after the editors; those that throw are counted and skipped. */
  editResponse(status: number, lines: string): string {
    let fields = lines.split("\r\n").slice(0, -1);
    const nameOf = (line: string): string => line.slice(0, line.indexOf(":")).toLowerCase();
    const response: ProxyResponse = {
      status,
      header: (name) => {
        const found = fields.filter((line) => nameOf(line) === name.toLowerCase());
        return found.length === 0
          ? undefined
          : found.map((line) => line.slice(line.indexOf(":") + 1).trim()).join(", ");
      },
      setHeader: (name, value) => {
        check(name, value);
        fields = fields.filter((line) => nameOf(line) !== name.toLowerCase());
        fields.push(`${name}: ${value}`);
      },
      removeHeader: (name) => {
        check(name, "");
        fields = fields.filter((line) => nameOf(line) !== name.toLowerCase());
      },
    };
    for (const edit of this.editors) {
      try {
        edit(response);
      } catch (error) {
        this.#engine.middlewareFailed(this.route, error);
      }
    }
    return fields.map((line) => `${line}\r\n`).join("");
  }

  startDeadline(after: number, fire: () => void): void {
    this.#timer = this.#engine.clock.setTimer((this.#engine.now + after) as never, fire);
  }

  settle(): void {
    this.#timer?.cancel();
    this.controller.abort();
  }

  done(): void {
    this.#timer?.cancel();
  }
}

function isReply(value: unknown): value is ProxyReply {
  return typeof value === "object" && value !== null && "status" in value && typeof value.status === "number";
}

/** Runs a route's middleware in order; one that throws answers 500, one past its deadline 504. */
export async function runMiddleware(
  exchange: MiddlewareHost,
  route: RoutePlan,
  engine: EngineCore,
): Promise<void> {
  const view = new MiddlewareView(exchange, engine);
  exchange.view = view;
  view.startDeadline(route.settings.middlewareDeadline, () => {
    engine.event("middleware-deadline");
    exchange.reply(504, "middleware-deadline");
    view.controller.abort();
  });
  try {
    for (const middleware of route.middleware) {
      const reply = await middleware(view, view.controller.signal);
      if (exchange.finished) return;
      if (!isReply(reply)) continue;
      checkStatus(reply.status);
      view.done();
      engine.tick();
      const headers = Object.entries(reply.headers ?? {});
      for (const [name, value] of headers) check(name, value);
      exchange.reply(
        reply.status,
        "",
        headers.map(([name, value]) => `${name}: ${value}\r\n`).join(""),
        reply.body ?? "",
      );
      return;
    }
  } catch (error) {
    if (exchange.finished) return;
    view.done();
    engine.tick();
    engine.middlewareFailed(route.name, error);
    exchange.reply(500, "middleware-failed");
    return;
  }
  view.done();
  engine.tick();
  exchange.proceed();
  exchange.flushRequest();
}
