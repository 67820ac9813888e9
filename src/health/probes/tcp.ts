import { type Socket, connect as connectPlainly } from "node:net";
import { connect as connectTls } from "node:tls";
import { ipFamily } from "../../base/addresses.ts";
import type { Clock } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { Search, bytesOf } from "./answer.ts";
import { type Target, attempt, describeError } from "./probe.ts";
import { describeTls } from "./tls.ts";

type TcpCheck = Extract<Check, { kind: "tcp" }>;

function open({ address, port }: Target, check: TcpCheck): Socket {
  const to = { host: address, port, family: ipFamily(address) };
  if (!check.tls) return connectPlainly(to);
  return connectTls({ ...to, servername: check.sni ?? "", rejectUnauthorized: check.verify });
}

/** Good when a connection is accepted and, where something is said or expected, when the answer has come. */
export function probeTcp(
  target: Target,
  check: TcpCheck,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  return attempt(clock, check.timeout, signal, ({ settle, awaiting, took }) => {
    awaiting("connection");
    const { send, expect } = check;
    const socket = open(target, check);
    socket.once(check.tls ? "secureConnect" : "connect", () => {
      if (send === undefined && expect === undefined) return settle("good", `connected${took()}`);
      awaiting(expect === undefined ? "answer" : "expected answer");
      if (send !== undefined) socket.write(bytesOf(send, check));
    });
    const search = new Search(expect === undefined ? undefined : bytesOf(expect, check));
    socket.on("data", (piece: Buffer) => {
      const look = search.add(piece);
      if (look === "found") settle("good", `answered${took()}`);
      else if (look === "over") settle("bad", "not the expected answer in the first 64 KiB");
    });
    socket.once("end", () => settle("bad", "the connection was closed without the expected answer"));
    // Stays for what comes after the verdict: an error without a listener would end the process.
    socket.on("error", (error) => {
      const { outcome, reason } = describeTls(error) ?? describeError(error);
      settle(outcome, reason);
    });
    return () => socket.destroy();
  });
}
