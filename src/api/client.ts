import { type IncomingMessage, type RequestOptions, request } from "node:http";
import { OPERATIONAL_CODES, OperationalError, type OperationalCode, messageOf } from "../base/errors.ts";
import type { ApiError } from "../contracts/api.ts";

/** A switchover waits for two nodes; everything else answers at once. */
const ANSWER_WITHIN_MS = 15_000;

/** Nobody answers on the control socket. */
export class NodeUnreachable extends OperationalError {}

/** Where a node's control API is: its unix socket, or TCP with TLS and a token. */
export type Target = string | TcpTarget;
export interface TcpTarget {
  readonly host: string;
  readonly port: number;
  /** The certificate's name; default: the host. */
  readonly name?: string | undefined;
  /** PEM of the authority; default: the host's own. */
  readonly ca?: string | undefined;
  readonly token: string;
}

/** Asks the node's control API. What it answers as an error is thrown as the same OperationalError. */
export async function askNode<T>(
  target: Target,
  method: "GET" | "POST",
  path: string,
  body?: unknown,
): Promise<T> {
  const { status, text } = await exchange(target, method, path, body);
  const value = parse(target, text);
  if (status < 400) return value as T;
  const { error } = value as ApiError;
  if (!(error.code in OPERATIONAL_CODES)) throw new Error(`the node answered ${status}: ${error.message}`);
  throw new OperationalError(error.code as OperationalCode, error.message, { retryable: error.retryable });
}

const nameOf = (target: Target): string =>
  typeof target === "string" ? target : `${target.host}:${target.port}`;

function parse(target: Target, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new NodeUnreachable("PEER_LOST", `${nameOf(target)}: what answers there is no node`);
  }
}

type AskOptions = Omit<RequestOptions, "headers"> & { readonly headers: Readonly<Record<string, string>> };

async function open(target: Target, options: AskOptions, answered: (answer: IncomingMessage) => void) {
  // A connection of its own: a kept one may be closed by the node just when the next question is written to it.
  if (typeof target === "string") return request({ ...options, socketPath: target, agent: false }, answered);
  const [{ request: secure }, { checkServerIdentity }] = await Promise.all([
    import("node:https"),
    import("node:tls"),
  ]);
  const { host, port, name, ca, token } = target;
  const headers = { ...options.headers, authorization: `Bearer ${token}` };
  return secure(
    {
      ...options,
      host,
      port,
      headers,
      agent: false,
      minVersion: "TLSv1.3",
      checkServerIdentity: (_, certificate) => checkServerIdentity(name ?? host, certificate),
      ...(ca === undefined ? {} : { ca }),
    },
    answered,
  );
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no node answers there",
  ECONNREFUSED: "no node answers there",
  EACCES: "only the user who runs the node may ask it",
};

async function exchange(
  target: Target,
  method: string,
  path: string,
  body: unknown,
): Promise<{ status: number; text: string }> {
  const headers = { host: "nines", "content-type": "application/json" };
  let settle: (result: { status: number; text: string }) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const done = new Promise<{ status: number; text: string }>((resolve, failed) => {
    settle = resolve;
    reject = failed;
  });
  const outgoing = await open(target, { method, path, headers, timeout: ANSWER_WITHIN_MS }, (answer) => {
    let text = "";
    answer.setEncoding("utf8");
    answer.on("data", (part: string) => (text += part));
    answer.on("end", () => settle({ status: answer.statusCode ?? 500, text }));
    answer.on("error", reject);
  });
  outgoing.on("timeout", () => {
    reject(new OperationalError("TIMEOUT", `the node did not answer within ${ANSWER_WITHIN_MS / 1000} s`));
    outgoing.destroy();
  });
  outgoing.on("error", (error: NodeJS.ErrnoException) => {
    const why = REASONS[error.code ?? ""] ?? messageOf(error);
    reject(new NodeUnreachable("PEER_LOST", `${nameOf(target)}: ${why}`));
  });
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  return await done;
}
