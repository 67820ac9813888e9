import { type ClientRequest, type IncomingMessage, request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import { formatIpPort, ipFamily, parseIp } from "../../base/addresses.ts";
import type { Clock } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { Search } from "./answer.ts";
import { type Attempt, type Target, attempt, describeError } from "./probe.ts";
import { describeTls } from "./tls.ts";

type HttpCheck = Extract<Check, { kind: "http" }>;

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
      const { outcome, reason } = describeTls(error) ?? describeHttp(error) ?? describeError(error);
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
  const search = new Search(Buffer.from(wanted, "utf8"));
  response.on("data", (piece: Buffer) => {
    const look = search.add(piece);
    if (look === "found") settle("good", said());
    else if (look === "over") settle("bad", `${said()}, without the expected text in the first 64 KiB`);
  });
  response.once("end", () => settle("bad", `${said()}, without the expected text in the body`));
  response.on("error", () => settle("bad", `${said()}, then the connection was closed in the body`));
}

const describeHttp = ({ code = "" }: NodeJS.ErrnoException): CheckVerdict | undefined =>
  code.startsWith("HPE_") ? { outcome: "bad", reason: "the answer is not HTTP" } : undefined;
