import type { Duplex } from "node:stream";
import { type ClientHttp2Session, type OutgoingHttpHeaders, connect } from "node:http2";

export interface Http2Answer {
  status: number;
  headers: Record<string, unknown>;
  trailers: Record<string, unknown>;
  body: string;
  /** The code of a reset; 0 for none. */
  reset: number;
}

/** `secure`: TLS, or a socket that speaks it already. */
export function http2Client(port: number, secure?: boolean | Duplex): ClientHttp2Session {
  const tls = { servername: "shop.example", rejectUnauthorized: false };
  const session =
    typeof secure === "object"
      ? connect("https://shop.example", { createConnection: () => secure })
      : secure === true
        ? connect(`https://127.0.0.1:${port}`, tls)
        : connect(`http://127.0.0.1:${port}`);
  session.on("error", () => undefined);
  return session;
}

/** One request; resolves when its stream is closed, whatever way. */
export function request(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: string | Uint8Array,
): Promise<Http2Answer> {
  return new Promise((resolve) => {
    const answer: Http2Answer = { status: 0, headers: {}, trailers: {}, body: "", reset: 0 };
    const stream = session.request(
      { ":authority": "shop.example", ...headers },
      { endStream: body === undefined },
    );
    stream.on("response", (fields) => {
      answer.status = fields[":status"] ?? 0;
      answer.headers = { ...fields };
    });
    stream.on("trailers", (fields: object) => {
      answer.trailers = { ...fields };
    });
    stream.on("data", (chunk: Buffer) => {
      answer.body += chunk.toString("latin1");
    });
    stream.on("error", () => undefined);
    stream.on("close", () => {
      answer.reset = stream.rstCode;
      resolve(answer);
    });
    if (body !== undefined) stream.end(body);
  });
}

/** Waits for a state: tests on a slow machine assert no times. */
export const eventually = async (test: () => boolean, within = 10_000): Promise<void> => {
  for (let waited = 0; !test(); waited += 10) {
    if (waited > within) throw new Error("it did not happen");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
