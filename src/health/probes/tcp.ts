import { connect } from "node:net";
import { ipFamily } from "../../base/addresses.ts";
import type { Clock, DurationMs } from "../../base/time.ts";
import type { CheckVerdict } from "../machine.ts";
import { type Target, attempt, describeError } from "./probe.ts";

/** Good when a connection is accepted. */
export function probeTcp(
  target: Target,
  check: { readonly timeout: DurationMs },
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  return attempt(clock, check.timeout, signal, ({ settle, awaiting, took }) => {
    awaiting("connection");
    const { address, port } = target;
    const socket = connect({ host: address, port, family: ipFamily(address) });
    socket.once("connect", () => settle("good", `connected${took()}`));
    socket.on("error", (error) => {
      const { outcome, reason } = describeError(error);
      settle(outcome, reason);
    });
    return () => socket.destroy();
  });
}
