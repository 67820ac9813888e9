/** A pool: down when what is left cannot carry the peak, and in part while a dead backend is not noticed yet. */
import type { Pool } from "../../contracts/site.ts";
import { type FaultTree, type Literal, TRUE } from "../engine/tree.ts";
import { commonCauses } from "./common.ts";
import type { Machine, Machines } from "./machines.ts";
import type { Part } from "./site-model.ts";
import { checkTimes } from "./times.ts";
import { HOUR, sayMilliseconds } from "./words.ts";
import type { Workbook } from "./workbook.ts";

export function poolPart(book: Workbook, machines: Machines, name: string, pool: Pool): Part {
  const { site, tree } = book;
  const members = Object.entries(pool.backends)
    .filter(([, backend]) => backend.weight > 0 && !backend.maintenance)
    .map(([backend, { at, zone }]) => ({ backend, machine: machines.backend(backend, at.address, zone) }));
  const capacity = site.availability.capacity[name];
  const carries = members.map(({ backend }) => capacity?.backends[backend] ?? capacity?.each ?? 1);
  const peak = capacity?.peak ?? Math.min(...carries);
  const short = capacity === undefined ? `${name} has no backend left` : `${name} cannot carry its peak`;
  const gates = members.map(({ machine }) => machine.gate);
  const alone = members.map(({ machine }) => machine.naive);
  const honest = [tooLittle(tree, short, gates, carries, peak)];
  const naive = tooLittle(tree, `${short} (alone)`, alone, carries, peak);
  const standing = members.map(({ machine }) => machine).filter((machine) => !machine.down);
  if (standing.length >= 2)
    honest.push(
      ...commonCauses(book, `backends of ${name}`, name, standing),
      unnoticed(book, name, pool, standing),
    );
  return { honest, naive };
}

/**
 * Until the checks notice a dead backend its share of new connections fails: a share of an outage for the
 * whole pool.
 */
function unnoticed(book: Workbook, name: string, pool: Pool, standing: readonly Machine[]): Literal {
  const rate = standing.reduce((sum, machine) => sum + machine.rate, 0);
  const times = checkTimes(pool);
  const mean = standing.reduce((sum, machine) => sum + machine.ownUnavailability, 0) / standing.length;
  const detect = times === undefined ? (mean / (rate / standing.length)) * HOUR : times.detect;
  book.input(
    `checks ${name}`,
    `dead backend of ${name} noticed`,
    sayMilliseconds(detect),
    "computed",
    times === undefined ? "never: the pool has no check, so until it is repaired" : times.words,
  );
  return book.event({
    name: `dead backend of ${name} not noticed yet`,
    class: "undetected",
    owner: name,
    kind: "check",
    rate,
    duration: detect / HOUR / standing.length,
    origin: "computed",
  });
}

/** What is left carries less than `needed`. Equal members are a vote; others a chain of decisions. */
function tooLittle(
  tree: FaultTree,
  name: string,
  failed: readonly Literal[],
  carries: readonly number[],
  needed: number,
): Literal {
  const each = carries[0] ?? 1;
  if (carries.every((one) => one === each)) {
    const atLeast = failed.length - Math.ceil(needed / each - 1e-9) + 1;
    if (atLeast <= 0) return TRUE;
    return tree.gate(name, "atleast", failed, atLeast);
  }
  const known = new Map<string, Literal>();
  const after: number[] = Array<number>(carries.length + 1).fill(0);
  for (let i = carries.length - 1; i >= 0; i--) after[i] = after[i + 1]! + carries[i]!;
  const decide = (i: number, missing: number): Literal => {
    if (missing <= 1e-9) return TRUE ^ 1;
    if (after[i]! < missing - 1e-9) return TRUE;
    const key = `${i} ${missing.toFixed(6)}`;
    let gate = known.get(key);
    if (gate === undefined) {
      const ifUp = decide(i + 1, missing - carries[i]!);
      const ifDown = decide(i + 1, missing);
      gate = tree.or(
        i === 0 ? name : `${name} (${i})`,
        ifUp,
        tree.and(`${name} (${i} down)`, failed[i]!, ifDown),
      );
      known.set(key, gate);
    }
    return gate;
  };
  return decide(0, needed);
}
