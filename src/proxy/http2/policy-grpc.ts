/** gRPC over HTTP/2, as far as a proxy has to know it (PROTOCOL-HTTP2.md of grpc/grpc). */

export const isGrpc = (contentType: string | undefined): boolean =>
  contentType !== undefined && /^application\/grpc($|[+;])/i.test(contentType);

const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/** Milliseconds of a grpc-timeout; undefined where it is not one. */
export function grpcTimeout(text: string | undefined): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text ?? "");
  return match === null ? undefined : Number(match[1]) * UNIT_MS[match[2]!]!;
}

const CODES: Readonly<Record<number, number>> = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  408: 4,
  413: 8,
  429: 14,
  431: 8,
  502: 14,
  503: 14,
  504: 14,
};

/** The proxy's own answer as a gRPC status: a client of gRPC reads no other. */
export function grpcStatusOf(status: number, reason: string): number {
  if (reason === "total-timeout") return 4;
  return CODES[status] ?? 2;
}
