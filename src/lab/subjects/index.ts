import type { Lab } from "../lab.ts";
import { Conntrackd } from "./conntrackd.ts";
import { HaproxyPair } from "./haproxy.ts";
import { Keepalived } from "./keepalived.ts";
import { Nines } from "./nines.ts";
import type { Subject } from "./subject.ts";

export function makeSubject(name: Subject["name"], lab: Lab): Subject {
  if (name === "conntrackd") return new Conntrackd(lab);
  if (name === "haproxy") return new HaproxyPair(lab);
  return name === "keepalived" ? new Keepalived(lab) : new Nines(lab);
}
