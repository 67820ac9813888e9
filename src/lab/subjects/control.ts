import { request } from "node:http";
import { OperationalError } from "../../base/errors.ts";
import type { ApiError } from "../../contracts/api.ts";

/** One question to a node's control socket. A refusal is an error with the node's own words. */
export function askControl(
  runtime: string,
  method: "GET" | "POST",
  path: string,
  body: unknown,
  within: number,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers =
      body === undefined ? {} : { "content-type": "application/json", "content-length": text.length };
    const asked = request({
      socketPath: `${runtime}/control.sock`,
      agent: false,
      method,
      path,
      headers,
      timeout: within,
    });
    asked.on("timeout", () =>
      asked.destroy(new OperationalError("TIMEOUT", `no answer to ${path} in ${within} ms`)),
    );
    asked.on("error", reject);
    asked.on("response", (response) => {
      let said = "";
      response.on("data", (chunk: Buffer) => (said += chunk.toString()));
      response.on("error", reject);
      response.on("end", () => {
        try {
          const answer = JSON.parse(said) as unknown;
          if (response.statusCode === 200) return resolve(answer);
          return reject(new OperationalError("PEER_REFUSED", (answer as ApiError).error.message));
        } catch (error) {
          return reject(error);
        }
      });
    });
    asked.end(text);
  });
}
