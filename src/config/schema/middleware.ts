/** What a middleware sees of a request, and may change. Names of fields are lower case. */
export interface ProxyRequest {
  readonly method: string;
  /** Path and query as they go to the backend. */
  target: string;
  readonly host: string;
  readonly scheme: "http" | "https";
  /** The client's address, after trusted proxies. */
  readonly client: string;
  readonly id: string;
  readonly route: string;
  header(name: string): string | undefined;
  setHeader(name: string, value: string): void;
  removeHeader(name: string): void;
  /** Called with the backend's response before it goes to the client. */
  onResponse(edit: (response: ProxyResponse) => void): void;
}

/** What a middleware sees of a response, and may change. */
export interface ProxyResponse {
  readonly status: number;
  header(name: string): string | undefined;
  setHeader(name: string, value: string): void;
  removeHeader(name: string): void;
}

/** A response made by the proxy itself. */
export interface ProxyReply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** The part of an AbortSignal that a middleware needs; it is one (contracts compile without Node's types). */
export interface Deadline {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
}

/** Returns a reply to answer at once, or nothing to go on. */
export type Middleware = (
  request: ProxyRequest,
  deadline: Deadline,
) => ProxyReply | undefined | void | Promise<ProxyReply | undefined | void>;
