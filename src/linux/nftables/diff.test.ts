import { describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { diffTables } from "./diff.ts";
import { addressElements, hostU32, lookup, verdict } from "./expressions.ts";
import { type NftRule, type NftSet, type NftTable, elementKey } from "./model.ts";

const key = (n: number) => ({ key: hostU32(n) });
const set = (name: string, ...numbers: number[]): NftSet => ({
  name,
  key: ["mark"],
  elements: new Map(numbers.map((n) => [elementKey(key(n)), key(n)])),
});
let handles = 0n;
const rule = (name: string, comment: string): NftRule => ({
  handle: ++handles,
  expressions: [lookup(name, 0), verdict("drop")],
  comment,
});
const table = (sets: NftSet[], rules: NftRule[]): NftTable => ({
  family: "ip",
  name: "t",
  owner: true,
  sets,
  chains: [{ name: "c", rules }],
});
const ops = (current: NftTable | undefined, desired: NftTable) =>
  diffTables(current, desired).map((change) => change.op);

describe("the difference of two tables", () => {
  it("is empty for equal ones, whatever their handles", () => {
    const make = () => table([set("a", 1, 2)], [rule("a", "x"), rule("a", "y")]);
    expect(ops(make(), make())).toEqual([]);
  });
  it("makes everything in an order that the kernel accepts", () => {
    expect(ops(undefined, table([set("a", 1)], [rule("a", "x")]))).toEqual([
      "add-table",
      "add-chain",
      "add-set",
      "add-elements",
      "add-rule",
    ]);
  });
  it("touches only the elements that differ", () => {
    const changes = diffTables(table([set("a", 1, 2)], []), table([set("a", 2, 3)], []));
    expect(changes.map((c) => ("elements" in c ? [c.op, c.elements] : c.op))).toEqual([
      ["delete-elements", [key(1)]],
      ["add-elements", [key(3)]],
    ]);
  });
  it("replaces only the rules between what both have", () => {
    const old = [rule("a", "1"), rule("a", "2"), rule("a", "3")];
    const changes = diffTables(table([], old), table([], [rule("a", "1"), rule("a", "x"), rule("a", "3")]));
    expect(changes).toMatchObject([
      { op: "delete-rule", handle: old[1]?.handle },
      { op: "add-rule", rule: { comment: "x" }, before: old[2]?.handle },
    ]);
  });
  it("makes a set whose definition changed anew, with the rules that use it", () => {
    const wider: NftSet = { ...set("a", 1), counter: true };
    expect(ops(table([set("a", 1)], [rule("a", "x")]), table([wider], [rule("a", "x")]))).toEqual([
      "delete-rule",
      "delete-set",
      "add-set",
      "add-elements",
      "add-rule",
    ]);
  });
  it("makes a set anew whose elements carry another limit, and only then", () => {
    const limited = (count: number): NftTable => {
      const expressions = [
        {
          kind: "dynset",
          op: "add",
          set: "d",
          key: 0,
          expressions: [{ kind: "connlimit", count, over: true }],
        },
      ] as const;
      return table([{ ...set("d"), dynamic: true }], [{ handle: ++handles, expressions }]);
    };
    expect(ops(limited(4), limited(4))).toEqual([]);
    expect(ops(limited(4), limited(8))).toEqual(["delete-rule", "delete-set", "add-set", "add-rule"]);
  });
  it("removes sets before the chains that they refer to", () => {
    const gone: NftTable = { ...table([set("a")], []), chains: [] };
    expect(ops(gone, { ...gone, sets: [] })).toEqual(["delete-set"]);
    expect(ops(table([set("a")], [rule("a", "x")]), { ...gone, sets: [] })).toEqual([
      "delete-rule",
      "delete-set",
      "delete-chain",
    ]);
  });
  it("leaves what rules and others put into a set alone", () => {
    const dynamic: NftSet = { ...set("d", 1), dynamic: true };
    expect(ops(table([dynamic], []), table([{ ...dynamic, elements: new Map() }], []))).toEqual([]);
  });
  it("takes a table over that nobody owns, and remakes one whose persistence differs", () => {
    const wanted = table([], []);
    expect(ops({ ...wanted, owner: false }, wanted)).toEqual(["add-table"]);
    expect(ops(wanted, { ...wanted, persist: true })).toEqual(["delete-table", "add-table", "add-chain"]);
  });
  it("keeps addresses of one family", () => {
    expect(addressElements([ip("10.0.0.1"), ip("fd00::1")], 6).size).toBe(1);
  });
});
