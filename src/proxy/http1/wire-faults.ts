/**
 * Every reason for which a message is refused: the metric's label, the log's field, and the status that a
 * client gets for it. From a backend each of them is a 502.
 */
export const FAULTS = {
  method: [400, "the method is not a token"],
  target: [400, "a character in the target that is not allowed there"],
  "target-fragment": [400, "the target has a fragment"],
  "target-form": [400, "the target's form does not fit the method"],
  version: [505, "not HTTP/1.0 or HTTP/1.1"],
  "status-line": [502, "the status line is not one"],
  "bare-cr": [400, "CR without LF"],
  "bare-lf": [400, "LF without CR"],
  "obs-fold": [400, "a folded header line"],
  "field-name": [400, "a header's name is not a token"],
  "space-before-colon": [400, "white space between a header's name and the colon"],
  "field-value": [400, "a control character in a header's value"],
  "underscore-name": [400, "a header's name looks like one that the proxy reads, with _ for -"],
  "duplicate-field": [400, "a header that may appear once appears twice"],
  "head-too-large": [431, "the head is larger than the limit"],
  "too-many-fields": [431, "more headers than the limit"],
  "host-missing": [400, "HTTP/1.1 without Host"],
  "host-invalid": [400, "Host is empty or not a host and port"],
  "host-disagrees": [400, "Host and the absolute target name different hosts"],
  "content-length": [400, "Content-Length is not one decimal number"],
  "length-and-chunked": [400, "Content-Length together with Transfer-Encoding"],
  "transfer-encoding": [501, "Transfer-Encoding other than chunked"],
  "transfer-encoding-version": [400, "Transfer-Encoding in HTTP/1.0"],
  "connection-option": [400, "Connection names a header that is not hop by hop"],
  expectation: [417, "Expect other than 100-continue"],
  "unexpected-body": [400, "GET or HEAD with a body"],
  "chunk-size": [400, "a chunk's size is not a hexadecimal number"],
  "chunk-extension": [400, "a chunk's extension is too long or has control characters"],
  "chunk-end": [400, "a chunk does not end where its size says"],
  "trailer-field": [400, "a trailer that may not be one"],
  "unexpected-switch": [502, "101 where no upgrade was asked for"],
  "h2-pseudo": [400, "a pseudo-header is missing, unknown, doubled or after a header"],
  "h2-connection-field": [400, "a header of the connection, which HTTP/2 has none of"],
  "h2-length": [400, "Content-Length is not the length of what came"],
  truncated: [400, "the connection ended within a message"],
} as const satisfies Readonly<Record<string, readonly [number, string]>>;

export type Fault = keyof typeof FAULTS;
