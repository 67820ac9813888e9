import type { Lab } from "../lab.ts";
import { Keepalived } from "./keepalived.ts";
import type { Subject } from "./subject.ts";

export function makeSubject(name: Subject["name"], lab: Lab): Subject {
  if (name === "keepalived") return new Keepalived(lab);
  throw new Error("nines cannot be drilled yet");
}
