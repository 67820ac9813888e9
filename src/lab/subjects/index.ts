import type { Lab } from "../lab.ts";
import { Keepalived } from "./keepalived.ts";
import { Nines } from "./nines.ts";
import type { Subject } from "./subject.ts";

export function makeSubject(name: Subject["name"], lab: Lab): Subject {
  return name === "keepalived" ? new Keepalived(lab) : new Nines(lab);
}
