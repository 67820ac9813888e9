import { expect, it } from "vitest";
import { VirtualClock } from "../base/virtual-clock.ts";
import type { RedundancyToBrain } from "../contracts/redundancy.ts";
import { Telling } from "./telling.ts";

it("keeps what lasts for a brain that comes later, until it ends, and ends only what began", () => {
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const heard: RedundancyToBrain[] = [];
  const telling = new Telling(new VirtualClock(), log, (message) => heard.push(message));
  const differs = { type: "event", event: "redundancy.site_differs", fields: { node: "b" } } as const;
  const agrees = { type: "event", event: "redundancy.site_agrees", fields: { node: "b" } } as const;
  telling.event("warn", "redundancy.link_down", {});
  telling.ends("site of b", agrees.event, agrees.fields);
  telling.begins("site of b", "error", differs.event, differs.fields);
  expect(telling.lasts("site of b")).toBe(true);
  expect(telling.standing).toEqual([differs]);
  telling.ends("site of b", agrees.event, agrees.fields);
  expect(telling.lasts("site of b")).toBe(false);
  expect(telling.standing).toEqual([]);
  expect(heard.slice(1)).toEqual([differs, agrees]);
});
