import type { Writable } from "node:stream";

/**
 * Bytes as a stream of HTTP/2 may keep them. node:http2 sends later than it takes, so bytes that the next read
 * overwrites are copied; without a copy go only those whose write fills the stream and so holds that read back.
 */
export const lasting = (stream: Writable, bytes: Uint8Array, stable: boolean): Uint8Array =>
  stable && bytes.length >= stream.writableHighWaterMark
    ? bytes
    : Uint8Array.prototype.slice.call(bytes, 0, bytes.length);
