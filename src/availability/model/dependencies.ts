/** A service that others run: one or several copies, by what is promised or by stated rates. */
import type { Site } from "../../contracts/site.ts";
import { TRUE } from "../engine/tree.ts";
import { CLOUD_PROMISES } from "./clouds.ts";
import type { Part } from "./site-model.ts";
import { HOUR } from "./words.ts";
import type { OwnRates, Workbook } from "./workbook.ts";

type Dependency = Site["availability"]["dependencies"][string];

export function dependencyPart(book: Workbook, name: string, one: Dependency): Part {
  const { tree } = book;
  if (book.isDown(name)) return { honest: [TRUE], naive: TRUE };
  const rates = ratesOf(book, name, one);
  const members = Array.from({ length: one.copies }, (_, i) =>
    book.component(name, "system", one.copies === 1 ? name : `${name} ${i + 1}`, rates),
  );
  const literals = members.map((member) => member.literal);
  const gate = tree.gate(`${name} is down`, "atleast", literals, members.length - one.needed + 1);
  const honest = [gate];
  const first = members[0]!;
  if (members.length > 1 && one.failover > 0)
    honest.push(
      book.event({
        name: `failover of ${name}`,
        class: "takeover",
        owner: name,
        kind: "takeover",
        rate: first.rate,
        duration: one.failover / HOUR,
        origin: "configured",
      }),
    );
  if (members.length > 1)
    honest.push(
      book.event({
        name: `all copies of ${name} at once`,
        class: "common cause",
        owner: name,
        kind: "common cause",
        rate: book.beta * first.rate,
        duration: first.unavailability / first.rate,
        origin: "default",
      }),
    );
  return { honest, naive: gate };
}

function ratesOf(book: Workbook, name: string, one: Dependency): OwnRates {
  const promise = one.sla === undefined ? undefined : CLOUD_PROMISES[one.sla];
  const promised = one.availability ?? promise?.percent;
  if (promised === undefined) return { mtbf: one.mtbf ?? HOUR * 8760, mttr: one.mttr ?? HOUR };
  // Only the share of time is promised; an outage is taken to last an hour.
  const share = 1 - promised / 100;
  const source = promise === undefined ? "site file" : `${promise.source} (${promise.date})`;
  book.input(name, name, `${promised} % each`, "configured", `${source}: a promise, not a measurement`);
  return { mtbf: share === 0 ? Number.MAX_VALUE : (HOUR * (1 - share)) / share, mttr: HOUR };
}
