/**
 * What went wrong with a connection, as node:http2 says it (a library error of nghttp2, negative), to what the other
 * side is told (RFC 9113 7). Undefined for what is nobody's fault but ours.
 */
export function errorCode(errno: unknown): number | undefined {
  return typeof errno === "number" ? CODES.get(errno) : undefined;
}

const PROTOCOL_ERROR = 0x1;
const FLOW_CONTROL_ERROR = 0x3;
const STREAM_CLOSED = 0x5;
const FRAME_SIZE_ERROR = 0x6;
const COMPRESSION_ERROR = 0x9;

const CODES: ReadonlyMap<number, number> = new Map([
  [-505, PROTOCOL_ERROR], // NGHTTP2_ERR_PROTO
  [-510, STREAM_CLOSED], // NGHTTP2_ERR_STREAM_CLOSED
  [-522, FRAME_SIZE_ERROR], // NGHTTP2_ERR_FRAME_SIZE_ERROR
  [-523, COMPRESSION_ERROR], // NGHTTP2_ERR_HEADER_COMP
  [-524, FLOW_CONTROL_ERROR], // NGHTTP2_ERR_FLOW_CONTROL
  [-531, PROTOCOL_ERROR], // NGHTTP2_ERR_HTTP_HEADER
  [-532, PROTOCOL_ERROR], // NGHTTP2_ERR_HTTP_MESSAGING
  [-903, PROTOCOL_ERROR], // NGHTTP2_ERR_BAD_CLIENT_MAGIC
]);
