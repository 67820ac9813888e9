/** What machines of one kind have in common: a cause that takes all, and the one crew that repairs them. */
import type { Literal } from "../engine/tree.ts";
import { DEFAULT_BETA } from "./defaults.ts";
import type { Machine } from "./machines.ts";
import type { Origin } from "./site-model.ts";
import type { Workbook } from "./workbook.ts";

/** Common causes, and the wait for the one repair crew when two are broken. */
export function commonCauses(
  book: Workbook,
  what: string,
  owner: string,
  machines: readonly Machine[],
): Literal[] {
  const { failover } = book.site.availability;
  const { beta } = book;
  const origin: Origin = failover.beta === undefined ? "default" : "configured";
  book.input(
    "beta",
    "common causes (beta)",
    `${(beta * 100).toPrecision(2)} %`,
    origin,
    failover.beta === undefined ? DEFAULT_BETA.source : "site file",
  );
  const count = machines.length;
  const rate = machines.reduce((sum, machine) => sum + machine.ownRate, 0) / count;
  const unavailability = machines.reduce((sum, machine) => sum + machine.ownUnavailability, 0) / count;
  if (rate === 0) return [];
  const result = [
    book.event({
      name: `all ${what} at once`,
      class: "common cause",
      owner,
      kind: "common cause",
      rate: beta * rate,
      duration: unavailability / rate,
      origin,
    }),
  ];
  if (failover.oneCrew && count === 2)
    result.push(
      book.event({
        name: `second repair waits (${what})`,
        class: "repair",
        owner,
        kind: "repair",
        rate: rate * unavailability,
        duration: unavailability / rate,
        origin: "computed",
      }),
    );
  return result;
}
