/** Which of two nodes' certificates is used, and who of the nodes orders. */
import { type Kept, type Wanted, ofAnother } from "./policy-renewal.ts";

/** What another node said just now. */
export interface PeerAnswer {
  readonly node: string;
  readonly claims: readonly string[];
  readonly ordering: readonly string[];
}

/**
 * Why an offered certificate is not taken; undefined where it is better than what there is: of the directory that is
 * asked for before one of another, then the one that was ordered later, then the one that lasts longer.
 */
export function notTaken(
  offered: Kept,
  own: Kept | undefined,
  wanted: Pick<Wanted, "names" | "directory">,
  now: number,
): "names" | "ended" | "older" | undefined {
  const covers = (kept: Kept): boolean => wanted.names.every((each) => kept.names.includes(each));
  if (!covers(offered)) return "names";
  if (offered.notAfter <= now) return "ended";
  if (own === undefined || !covers(own) || own.notAfter <= now) return undefined;
  const better =
    Number(ofAnother(own, wanted)) - Number(ofAnother(offered, wanted)) ||
    offered.ordered - own.ordered ||
    offered.notAfter - own.notAfter;
  return better > 0 ? undefined : "older";
}

/**
 * The node that orders a service's certificate in this one's stead; undefined where this one does. Where several could
 * (each listens at an address of its own, or both are Active while they do not hear each other), the first name does;
 * one that is at it is left to finish.
 */
export function leftTo(service: string, node: string, answers: readonly PeerAnswer[]): string | undefined {
  const busy = answers.find(({ ordering }) => ordering.includes(service));
  const first = answers.find((each) => each.claims.includes(service) && each.node < node);
  return (busy ?? first)?.node;
}
