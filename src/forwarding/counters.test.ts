import { describe, expect, it } from "vitest";
import { KernelError } from "../linux/native.ts";
import type { NftFamily, NftTable } from "../linux/nftables/model.ts";
import type { ElementRead } from "../linux/nftables/wire-objects.ts";
import { Counters } from "./counters.ts";
import { type TableInput, buildTables } from "./policy.ts";
import { input, makeSite } from "./testing/inputs.ts";

const given = (backends: Record<string, string>): TableInput =>
  input(makeSite({ pools: { apps: { backends } } }));
const tablesOf = (input: TableInput) =>
  new Map<NftFamily, NftTable>(buildTables(input).map((one) => [one.family, one]));
/** Three connections to each backend. */
const kernel = (input: TableInput, missing: string) => ({
  elements: (_place: unknown, name: string): Promise<ElementRead[]> => {
    if (name === missing) return Promise.reject(new KernelError("read set", 2));
    const [table] = tablesOf(input).values();
    const held = table?.sets.find((one) => one.name === name)?.elements.values() ?? [];
    return Promise.resolve([...held].map((one) => ({ ...one, packets: 3n, bytes: 300n })));
  },
});

describe("counts of backends", () => {
  const two = given({ b1: "10.2.0.11:80", b2: "10.2.0.12:80" });
  const rows = (counters: Counters) => counters.list().map((one) => [one.backend, one.connections]);
  it("are told though one of the sets went meanwhile", async () => {
    const counters = new Counters();
    await counters.collect(kernel(two, "traffic"), tablesOf(two), two);
    expect(rows(counters)).toEqual([
      ["apps/b1", 3],
      ["apps/b2", 3],
    ]);
  });
  it("end with the backend", async () => {
    const counters = new Counters();
    await counters.collect(kernel(two, ""), tablesOf(two), two);
    const one = given({ b2: "10.2.0.12:80" });
    await counters.collect(kernel(one, ""), tablesOf(one), one);
    expect(rows(counters)).toEqual([["apps/b2", 3]]);
  });
});
