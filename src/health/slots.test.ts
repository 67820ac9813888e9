import { setImmediate as turn } from "node:timers/promises";
import { expect, it } from "vitest";
import { Slots } from "./slots.ts";

it("runs so many at once, the others in their order, and survives those that fail", async () => {
  const slots = new Slots(3);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const all = Array.from({ length: 10 }, (_, i) =>
    slots
      .run(
        () =>
          new Promise<void>((resolve, reject) => {
            begun.push(i);
            ends.push(i % 4 === 1 ? () => reject(new Error("failed")) : resolve);
          }),
      )
      .catch(() => {}),
  );
  for (let done = 0; done < 10; done++) {
    await turn();
    expect(slots.running).toBe(Math.min(3, 10 - done));
    expect(begun).toHaveLength(Math.min(10, done + 3));
    ends[done]?.();
  }
  await Promise.all(all);
  expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect([slots.running, slots.waiting]).toEqual([0, 0]);
});
