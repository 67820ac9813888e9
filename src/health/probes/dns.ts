import { Resolver } from "node:dns";
import { formatIpPort } from "../../base/addresses.ts";
import type { Clock } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { type Target, attempt, describeError } from "./probe.ts";

/** What servers answer, and what the library makes of it. */
const words: Readonly<Record<string, string>> = {
  ENOTFOUND: "NXDOMAIN",
  ENODATA: "no such record",
  ESERVFAIL: "SERVFAIL",
  EREFUSED: "REFUSED",
  ENOTIMP: "NOTIMP",
  EFORMERR: "FORMERR",
  EBADRESP: "the answer is not DNS",
  ECONNREFUSED: "nobody listens there",
};

/** Good when the server answers with a record of the name. A resolver of its own for each: no answer is remembered. */
export function probeDns(
  { address, port }: Target,
  check: Extract<Check, { kind: "dns" }>,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  return attempt(clock, check.timeout, signal, ({ settle, awaiting, took }) => {
    awaiting("answer");
    // The deadline is the attempt's: the library's own comes after it.
    const resolver = new Resolver({ timeout: check.timeout + 1000, tries: 1 });
    resolver.setServers([formatIpPort({ address, port })]);
    resolver.resolve(check.name, check.type, (error) => {
      if (error === null) return settle("good", `answered${took()}`);
      const known = words[error.code ?? ""];
      const { outcome, reason } = describeError(error);
      if (known === undefined) settle(outcome, reason);
      else settle("bad", `${known}${took()}`);
    });
    return () => resolver.cancel();
  });
}
