/** A fault tree as an Open-PSA file, for other tools. */
import { type FaultTree, type Literal, TRUE } from "../engine/tree.ts";
import { escapeXml } from "./xml.ts";

/** Names there are `letter or _, then letters, digits, _ and single -`: others get a safe form and a label. */
export function writeOpenPsa(tree: FaultTree, title: string): string {
  const order = tree.order();
  if (!order.ok) throw new RangeError(order.error.message);
  const names = new Map<number, string>();
  const taken = new Set<string>();
  const nameOf = (node: number): string => {
    let name = names.get(node);
    if (name === undefined) {
      const base = identifier(tree.nodes[node]!.name);
      name = base;
      for (let i = 2; taken.has(name); i++) name = `${base}_${i}`;
      taken.add(name);
      names.set(node, name);
    }
    return name;
  };
  const reference = (literal: Literal): string => {
    const node = literal >> 1;
    const value = tree.nodes[node]!;
    if (node === 0) return `<constant value="${literal === TRUE}"/>`;
    const plain = `<${value.kind === "gate" ? "gate" : "basic-event"} name="${nameOf(node)}"/>`;
    return literal & 1 ? `<not>${plain}</not>` : plain;
  };
  const label = (node: number): string[] => {
    const { name } = tree.nodes[node]!;
    return nameOf(node) === name ? [] : [`      <label>${escapeXml(name)}</label>`];
  };
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    "<opsa-mef>",
    `  <define-fault-tree name="${identifier(title)}">`,
  ];
  // The top first, as people write trees.
  const nodes = [...order.value].reverse();
  for (const node of nodes) {
    const value = tree.nodes[node]!;
    if (value.kind !== "gate") continue;
    lines.push(`    <define-gate name="${nameOf(node)}">`, ...label(node));
    if (value.gate === "is") lines.push(`      ${reference(value.inputs[0]!)}`);
    else {
      const open = value.gate === "atleast" ? `atleast min="${value.atLeast}"` : value.gate;
      lines.push(`      <${open}>`);
      for (const input of value.inputs) lines.push(`        ${reference(input)}`);
      lines.push(`      </${value.gate}>`);
    }
    lines.push("    </define-gate>");
  }
  lines.push("  </define-fault-tree>", "  <model-data>");
  for (const node of nodes) {
    const value = tree.nodes[node]!;
    if (value.kind !== "event") continue;
    lines.push(`    <define-basic-event name="${nameOf(node)}">`, ...label(node));
    lines.push(`      <float value="${value.probability}"/>`, "    </define-basic-event>");
  }
  lines.push("  </model-data>", "</opsa-mef>", "");
  return lines.join("\n");
}

function identifier(name: string): string {
  const safe = name.replaceAll(/[^A-Za-z0-9_]+/g, "_").replaceAll(/^_+|_+$/g, "");
  return /^[A-Za-z_]/.test(safe) ? safe : `_${safe}`;
}
