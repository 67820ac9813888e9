import { describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { ms } from "../base/time.ts";
import type { AffinityEntry } from "../contracts/affinity.ts";
import { ToldClients } from "./told.ts";
import { VirtualClock } from "../base/virtual-clock.ts";

const entry = (last: number, backend = 11): AffinityEntry => ({
  service: "web",
  source: ip(`10.0.0.${last}`),
  backend: ip(`10.1.0.${backend}`),
  port: 80,
  expires: 1000,
});

describe("what other nodes tell of clients", () => {
  it("is written at once, then gathered for as long as a write took, twenty times, and the latest counts", async () => {
    const clock = new VirtualClock();
    const writes: (readonly AffinityEntry[])[] = [];
    let finish = (): void => {};
    const told = new ToldClients(clock, (entries) => {
      writes.push(entries);
      return new Promise((resolve) => (finish = resolve));
    });
    told.add([entry(1)]);
    clock.advance(ms(0));
    expect(writes).toEqual([[entry(1)]]);
    told.add([entry(2)]);
    told.add([entry(2, 12), entry(3)]);
    clock.advance(ms(10));
    finish();
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
    clock.advance(ms(199));
    expect(writes).toHaveLength(1);
    clock.advance(ms(2));
    expect(writes[1]).toEqual([entry(2, 12), entry(3)]);
    told.stop();
    finish();
    told.add([entry(4)]);
    clock.advance(ms(60_000));
    expect(writes).toHaveLength(2);
  });
});
