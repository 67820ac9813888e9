import { describe, expect, it } from "vitest";
import { canNamespace, runScenario } from "./testing/namespace.ts";

interface Outcome {
  readonly before: boolean[];
  readonly closed: boolean[];
  readonly othersAnswer: boolean;
  readonly open: boolean[];
  readonly gateClosed: boolean[];
  readonly gateClosed6: boolean[];
  readonly gateCut: boolean[];
  readonly afterClose: boolean[];
  readonly expired: boolean[];
  readonly conflict: string;
  readonly adopted: boolean[];
  readonly settling: { late: boolean; lives: boolean; opens: boolean }[];
  readonly survivesFlush: boolean;
  readonly listed: boolean;
  readonly left: string;
  readonly errors: string[];
}

describe.skipIf(!canNamespace("nft"))("fence and gate", () => {
  it("lets virtual addresses answer only while they are renewed", async () => {
    const scenario = new URL("testing/fence-scenario.ts", import.meta.url);
    const outcome = await runScenario<Outcome>(scenario);
    expect(outcome).toEqual({
      before: [true, true],
      closed: [false, false],
      // The node's own address is none of the fence's business.
      othersAnswer: true,
      open: [true, true],
      // The neighbour answers, the traffic waits.
      gateClosed: [false, true],
      gateClosed6: [false, true],
      gateCut: [false, true],
      afterClose: [false, false],
      expired: [false, false],
      conflict: "PERMISSION",
      // The second process covers one address only: the other is open to all.
      adopted: [true, true],
      settling: [
        { late: true, lives: true, opens: true },
        { late: true, lives: true, opens: true },
      ],
      survivesFlush: true,
      listed: true,
      left: "",
      errors: [],
    });
  });
});
