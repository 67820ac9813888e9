import { request } from "node:http";
import { OPERATIONAL_CODES, OperationalError, type OperationalCode, messageOf } from "../base/errors.ts";
import type { ApiError } from "../contracts/api.ts";

/** A switchover waits for two nodes; everything else answers at once. */
const ANSWER_WITHIN_MS = 15_000;

/** Nobody answers on the control socket. */
export class NodeUnreachable extends OperationalError {}

/** Asks the node's control API. What it answers as an error is thrown as the same OperationalError. */
export async function askNode<T>(
  socket: string,
  method: "GET" | "POST",
  path: string,
  body?: unknown,
): Promise<T> {
  const { status, text } = await exchange(socket, method, path, body);
  const value = JSON.parse(text) as unknown;
  if (status < 400) return value as T;
  const { error } = value as ApiError;
  if (!(error.code in OPERATIONAL_CODES)) throw new Error(`the node answered ${status}: ${error.message}`);
  throw new OperationalError(error.code as OperationalCode, error.message, { retryable: error.retryable });
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { host: "nines", "content-type": "application/json" };
    const outgoing = request({ socketPath, method, path, headers, timeout: ANSWER_WITHIN_MS }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (part: string) => (text += part));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 500, text }));
      answer.on("error", reject);
    });
    outgoing.on("timeout", () => {
      reject(new OperationalError("TIMEOUT", `the node did not answer within ${ANSWER_WITHIN_MS / 1000} s`));
      outgoing.destroy();
    });
    outgoing.on("error", (error: NodeJS.ErrnoException) => {
      const why =
        error.code === "ENOENT" || error.code === "ECONNREFUSED"
          ? "no node answers there"
          : error.code === "EACCES"
            ? "only the user who runs the node may ask it"
            : messageOf(error);
      reject(new NodeUnreachable("PEER_LOST", `${socketPath}: ${why}`));
    });
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
