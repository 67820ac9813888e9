import { drainAndRestart } from "../faults/operator.ts";
import type { Drill } from "./drill.ts";

export const nodeDrained: Drill = {
  name: "node-drained",
  story: "Maintenance of a whole node: it is drained, restarted, stays out, and is brought back.",
  skip: (lab) => (lab.subject.drain === undefined ? `${lab.subject.name} knows no such thing` : undefined),
  fault: ({ active }) => drainAndRestart(active),
  hold: ({ activeDown }) => activeDown + 700,
  budget: () => ({ lost: 0, kept: 1, takeovers: 1 }),
};
