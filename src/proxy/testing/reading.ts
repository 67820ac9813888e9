import { Http1Reader, type ReaderLimits, Signal } from "../http1/machine.ts";
import { latin1 } from "../engine/channel.ts";
import { FieldNames } from "../http1/wire-names.ts";

export const testLimits: ReaderLimits = { head: 16_384, fields: 100, bodyOnGet: false };

export interface Message {
  start: string;
  fields: [string, string][];
  framing: number;
  body: string;
  trailers: [string, string][];
  complete: boolean;
}

export interface Reading {
  messages: Message[];
  fault: string | undefined;
}

export const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "latin1"));

/** The bytes in pieces of these sizes, over and over. */
export const chunked = (bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] => {
  const chunks: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
};

/** Reads a stream given in chunks to its end, as text. */
export function read(
  role: "request" | "response",
  chunks: readonly Uint8Array[],
  limits: ReaderLimits = testLimits,
): Reading {
  const reader = new Http1Reader(role, new FieldNames(), limits, latin1);
  const messages: Message[] = [];
  let current: Message | undefined;
  const take = (signal: number): boolean => {
    if (signal === Signal.head) {
      const { head } = reader;
      const fields: [string, string][] = [];
      for (let i = 0; i < head.count; i++) fields.push([head.nameAt(i * 6), head.valueAt(i * 6)]);
      const start =
        role === "request"
          ? `${head.method} ${head.target} ${head.authority} 1.${head.minor}`
          : `${head.status} ${head.reason} 1.${head.minor}`;
      current = { start, fields, framing: head.framing, body: "", trailers: [], complete: false };
      messages.push(current);
    } else if (signal === Signal.body) {
      current!.body += Buffer.from(reader.bytes.subarray(reader.bodyStart, reader.bodyEnd)).toString(
        "latin1",
      );
    } else if (signal === Signal.end) {
      current!.trailers = reader.trailers.map(({ name, value }) => [name, value]);
      current!.complete = true;
    }
    return signal !== Signal.need && signal !== Signal.fault;
  };
  for (const chunk of chunks) {
    // The chunk is overwritten after its turn, as the shell's read buffer is.
    const copy = Buffer.from(chunk);
    reader.feed(copy, 0, copy.length);
    while (take(reader.next()));
    copy.fill(0x5a);
  }
  take(reader.finish());
  return { messages, fault: reader.fault };
}

export const readText = (role: "request" | "response", text: string, limits?: ReaderLimits): Reading =>
  read(role, [bytesOf(text)], limits);
