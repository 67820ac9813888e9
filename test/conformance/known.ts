/**
 * What fails and stays so, each with its reason: node:http2 reads the frames, and offers no setting for it. The section
 * is h2spec's own numbering, which is that of RFC 7540.
 */
const OF_NODE: Readonly<Record<string, string>> = {
  "http2/5.1: closed: Sends a DATA frame after sending RST_STREAM frame": "closed-streams",
  "http2/5.1: closed: Sends a HEADERS frame after sending RST_STREAM frame": "closed-streams",
  "http2/5.1: closed: Sends a DATA frame": "closed-streams",
  "http2/5.1: closed: Sends a HEADERS frame": "closed-streams",
  "http2/5.1.1: Sends stream identifier that is numerically smaller than previous": "closed-streams",
  "http2/6.7: Sends a PING frame with ACK": "ping",
};

/** Without TLS, HTTP/1.1 is served on the same port: what is no preface of HTTP/2 is answered with its 400. */
const CLEARTEXT: Readonly<Record<string, string>> = {
  "http2/3.5: Sends invalid connection preface": "both-protocols",
};

/** Failures that are not explained. */
export const unknown = (failures: readonly string[], tls: boolean): string[] =>
  failures.filter((one) => !(one in OF_NODE) && (tls || !(one in CLEARTEXT)));
