import { createSocket } from "node:dgram";
import { ipFamily } from "../../base/addresses.ts";
import type { Clock } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { Search, bytesOf } from "./answer.ts";
import { type Target, attempt, describeError } from "./probe.ts";

/** Good when a datagram is answered from where it was sent to, with the expected text where there is one. */
export function probeUdp(
  { address, port }: Target,
  check: Extract<Check, { kind: "udp" }>,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  return attempt(clock, check.timeout, signal, ({ settle, awaiting, took }) => {
    awaiting("answer");
    const { send, expect } = check;
    const socket = createSocket(ipFamily(address) === 4 ? "udp4" : "udp6");
    // Connected: the kernel drops what others send, and tells that nobody listens.
    socket.once("connect", () => socket.send(bytesOf(send, check)));
    socket.connect(port, address);
    socket.on("message", (answer) => {
      if (new Search(expect === undefined ? undefined : bytesOf(expect, check)).add(answer) === "found")
        settle("good", `answered${took()}`);
      else awaiting("expected answer");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED") return settle("bad", "nobody listens there");
      const { outcome, reason } = describeError(error);
      settle(outcome, reason);
    });
    return () => socket.close();
  });
}
