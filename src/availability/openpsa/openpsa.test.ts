import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../../base/errors.ts";
import { analyse } from "../engine/analysis.ts";
import { readOpenPsa } from "./read.ts";
import { writeOpenPsa } from "./write.ts";

const read = (text: string) => readOpenPsa([{ file: "m.xml", text }]);
const mistakes = (text: string): string[] => {
  try {
    read(text);
    return [];
  } catch (thrown) {
    if (!(thrown instanceof ConfigError)) throw thrown;
    return thrown.message.split("\n");
  }
};
const model = (...body: string[]): string => ["<opsa-mef>", ...body, "</opsa-mef>"].join("\n");
const tree = (...body: string[]): string =>
  model('<define-fault-tree name="t">', ...body, "</define-fault-tree>");
const event = (name: string, p: number | string): string =>
  `<define-basic-event name="${name}"><float value="${p}"/></define-basic-event>`;

describe("a model", () => {
  it("is read with nested formulas, house events, parameters and private components", () => {
    const { tree: made, tops } = read(
      tree(
        '<define-gate name="top"><or><and><event name="a"/><not><gate name="c.inner"/></not></and>',
        '<house-event name="off"/></or></define-gate>',
        '<define-component name="c" role="private">',
        '<define-gate name="inner"><basic-event name="a"/></define-gate>',
        event("a", 0.5),
        "</define-component>",
        '<define-house-event name="off"><constant value="false"/></define-house-event>',
        '<define-parameter name="rate"><float value="1e-4"/></define-parameter>',
        '<define-basic-event name="a"><label>A &amp; &#66;</label>',
        '<exponential><parameter name="rate"/><system-mission-time/></exponential></define-basic-event>',
      ),
    );
    expect(tops.map((top) => made.nameOf(top))).toEqual(["top"]);
    const result = analyse(made);
    const a = 1 - Math.exp(-0.876);
    expect(result.ok && result.value.probability).toBeCloseTo(a * 0.5, 12);
  });

  it("comes back from its own export with the same probability", () => {
    const source = read(
      tree(
        '<define-gate name="top"><atleast min="2"><event name="a"/><event name="b"/><gate name="g"/></atleast></define-gate>',
        '<define-gate name="g"><xor><event name="a"/><event name="c"/></xor></define-gate>',
        event("a", 0.1),
        event("b", 0.2),
        event("c", 0.3),
      ),
    ).tree;
    const again = read(writeOpenPsa(source, "a model; with odd name")).tree;
    const [first, second] = [analyse(source), analyse(again)];
    if (!first.ok || !second.ok) throw new Error("cyclic");
    expect(second.value.probability).toBeCloseTo(first.value.probability, 15);
  });
});

describe("a wrong model is refused with its line", () => {
  it.each([
    [
      "a cycle",
      tree(
        '<define-gate name="a"><gate name="b"/></define-gate>',
        '<define-gate name="b"><gate name="a"/></define-gate>',
      ),
      "m.xml:3:1: a: the tree is cyclic: a -> b -> a",
    ],
    [
      "an undefined event",
      tree('<define-gate name="a"><or>', '<event name="ghost"/></or></define-gate>'),
      'm.xml:4:1: a: the event "ghost" is not defined',
    ],
    [
      "a probability above 1",
      tree('<define-gate name="a"><event name="e"/></define-gate>', event("e", 1.5)),
      "m.xml:4:1: e: the probability is 1.5 (expected a number from 0 to 1)",
    ],
    [
      "no probability",
      tree('<define-gate name="a"><event name="e"/></define-gate>', '<define-basic-event name="e"/>'),
      "m.xml:4:1: e: the basic event has no probability",
    ],
    [
      "a name twice",
      tree('<define-gate name="a"><event name="e"/></define-gate>', event("e", 0), event("e", 0)),
      'm.xml:5:1: e: "e" is defined twice, first at m.xml:4',
    ],
    ["no number", tree(event("e", "x")), 'm.xml:3:48: "x" is not a number'],
    [
      "a cyclic parameter",
      tree(
        '<define-gate name="g"><event name="e"/></define-gate>',
        '<define-parameter name="p"><parameter name="p"/></define-parameter>',
        event("e", 0),
      ),
      "m.xml:4:1: p: the parameter is cyclic: p -> p",
    ],
    ["bad nesting", "<opsa-mef>\n</opsa>", "m.xml:2:8: </opsa> where </opsa-mef> is due"],
    ["another format", "<html/>", "m.xml:1:8: the root is <html>"],
    ["no XML", "hello", "m.xml:1:1: text outside of any element"],
    ["nothing", "", "m.xml:1:1: the file has no element"],
  ])("%s", (_, text, expected) => {
    expect(mistakes(text)[0]).toContain(expected);
  });

  it("names all undefined events at once", () => {
    expect(
      mistakes(tree('<define-gate name="a"><or><event name="x"/><event name="y"/></or></define-gate>')),
    ).toHaveLength(2);
  });
});

describe("hostile files", () => {
  it("may not define entities", () => {
    const bomb =
      '<?xml version="1.0"?>\n<!DOCTYPE b [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]>\n<opsa-mef/>';
    expect(mistakes(bomb)[0]).toContain("m.xml:2:1: document types and entities are not accepted");
    expect(mistakes(model("&b;"))[0]).toContain('unknown entity "&b;"');
  });
  it("may not nest without end", () => {
    expect(mistakes("<opsa-mef>".repeat(100_000))[0]).toContain("<opsa-mef> is not known here");
    expect(mistakes(tree(`<define-gate name="a">${"<not>".repeat(100_000)}`))[0]).toContain(
      "nested deeper than 256",
    );
  });
  it("never crash the reader, whatever they hold", () => {
    const pieces = [
      "<opsa-mef>",
      "</opsa-mef>",
      "<define-gate name='a'>",
      "<or>",
      "<",
      ">",
      "&",
      "&#0;",
      "<!--",
      "]]>",
      "<![CDATA[",
      '"',
      "x",
      "\n",
      "<event name='a'/>",
      "<?",
    ];
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string()), { maxLength: 20 }), (parts) => {
        mistakes(parts.join(""));
      }),
    );
  });
  it("of twenty thousand events are read and analysed", () => {
    const lines = ['<opsa-mef><define-fault-tree name="t">', '<define-gate name="top"><or>'];
    for (let i = 0; i < 1000; i++) lines.push(`<gate name="g${i}"/>`);
    lines.push("</or></define-gate>");
    for (let i = 0; i < 1000; i++) {
      lines.push(`<define-gate name="g${i}"><and>`);
      for (let j = 0; j < 20; j++) lines.push(`<event name="e${i * 20 + j}"/>`);
      lines.push("</and></define-gate>");
    }
    for (let i = 0; i < 20_000; i++) lines.push(event(`e${i}`, 0.5));
    lines.push("</define-fault-tree></opsa-mef>");
    const { tree: made } = read(lines.join("\n"));
    const result = analyse(made);
    expect(result.ok && result.value.probability).toBeCloseTo(1 - (1 - 0.5 ** 20) ** 1000, 12);
  });
});
