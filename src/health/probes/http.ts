import { type ClientRequest, type IncomingMessage, request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import { formatIpPort, ipFamily, parseIp } from "../../base/addresses.ts";
import type { Clock } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { type Attempt, type Target, attempt, describeError, firstLine } from "./probe.ts";

type HttpCheck = Extract<Check, { kind: "http" }>;

/** How much of a body is searched for the expected text. */
export const BODY_LIMIT = 64 * 1024;

/** `200-299,304` holds 304. The schema has checked the form. */
export function statusFits(ranges: string, status: number): boolean {
  return ranges.split(",").some((range) => {
    const [low = Number.NaN, high = low] = range.split("-").map(Number);
    return status >= low && status <= high;
  });
}

/** The name in a Host header without its port; undefined for an address, which is no server name. */
function nameOf(host: string): string | undefined {
  const name = /^[^:[\]]+(?=(:\d+)?$)/.exec(host)?.[0];
  return name === undefined || parseIp(name).ok ? undefined : name;
}

function open({ address, port }: Target, check: HttpCheck): ClientRequest {
  const isDefaultPort = port === (check.tls ? 443 : 80);
  const own = ipFamily(address) === 6 ? `[${address}]` : address;
  const host = check.host ?? (isDefaultPort ? own : formatIpPort({ address, port }));
  const options = {
    host: address,
    port,
    family: ipFamily(address),
    method: "GET",
    path: check.path,
    setHost: false,
    headers: { host, "user-agent": "nines-health", accept: "*/*", connection: "close" },
    // No agent: every check is a connection of its own, as a new client's is.
    agent: false as const,
  };
  if (!check.tls) return plainRequest(options);
  const servername = check.sni ?? nameOf(host) ?? "";
  return tlsRequest({ ...options, servername, rejectUnauthorized: check.verify });
}

/** Good when the status fits and, where asked, the first 64 KiB of the body contain the text. */
export function probeHttp(
  target: Target,
  check: HttpCheck,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  return attempt(clock, check.timeout, signal, (current) => {
    current.awaiting("connection");
    const request = open(target, check);
    request.once("socket", (socket) =>
      socket.once(check.tls ? "secureConnect" : "connect", () => current.awaiting("response")),
    );
    request.once("response", (response) => judge(response, check, current));
    // Stays for what comes after the verdict: an error without a listener would end the process.
    request.on("error", (error: NodeJS.ErrnoException) => {
      const { outcome, reason } = describeTls(error) ?? describeError(error);
      current.settle(outcome, reason);
    });
    request.end();
    return () => request.destroy();
  });
}

function judge(response: IncomingMessage, check: HttpCheck, { settle, awaiting, took }: Attempt): void {
  const status = response.statusCode ?? 0;
  const said = (): string => `HTTP ${status}${took()}`;
  if (!statusFits(check.status, status)) return settle("bad", said());
  const { body: wanted } = check;
  if (wanted === undefined) return settle("good", said());
  awaiting("end of the response");
  const pieces: Buffer[] = [];
  let length = 0;
  const look = (): boolean => Buffer.concat(pieces, Math.min(length, BODY_LIMIT)).includes(wanted, 0, "utf8");
  response.on("data", (piece: Buffer) => {
    pieces.push(piece);
    length += piece.length;
    if (look()) settle("good", said());
    else if (length >= BODY_LIMIT) settle("bad", `${said()}, without the expected text in the first 64 KiB`);
  });
  response.once("end", () => settle("bad", `${said()}, without the expected text in the body`));
  response.on("error", () => settle("bad", `${said()}, then the connection was closed in the body`));
}

/** What is wrong with a certificate is said in words: it is what one looks for in the log. */
function describeTls(error: NodeJS.ErrnoException): CheckVerdict | undefined {
  const code = error.code ?? "";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return { outcome: "bad", reason: "the certificate is for another name" };
  if (/CERT|SIGNATURE|ISSUER|CHAIN/.test(code))
    return { outcome: "bad", reason: `certificate: ${firstLine(error.message)}` };
  if (code.startsWith("ERR_SSL") || code === "EPROTO")
    return { outcome: "bad", reason: "the TLS handshake failed" };
  if (code.startsWith("HPE_")) return { outcome: "bad", reason: "the answer is not HTTP" };
  return undefined;
}
