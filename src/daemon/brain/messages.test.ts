import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RedundancyToBrain } from "../../contracts/redundancy.ts";
import { router } from "../testing/fakes.ts";
import { decodeRedundancy } from "./messages.ts";

describe("messages of the redundancy process", () => {
  it("are taken as they were sent, with what a newer version adds left out", () => {
    const messages: RedundancyToBrain[] = [
      { type: "ready", pid: 7 },
      { type: "status", routers: [router()], counters: { a: 1 } },
      { type: "event", event: "x", fields: { node: "b" } },
      { type: "result", id: 1, ok: false, error: "no" },
    ];
    for (const message of messages) {
      const wire: unknown = JSON.parse(JSON.stringify({ ...message, added: "later" }));
      expect(decodeRedundancy(wire)).toEqual({ ok: true, value: message });
    }
  });
  it("are refused with a reason where they are something else, and never throw", () => {
    const wrong = decodeRedundancy({
      type: "status",
      routers: [{ ...router(), state: "king" }],
      counters: {},
    });
    expect(!wrong.ok && wrong.error).toContain("routers.0.state");
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(decodeRedundancy(value).ok).toBe(false);
      }),
    );
  });
});
