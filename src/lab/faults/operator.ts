import { readFileSync, writeFileSync } from "node:fs";
import { parseDocument } from "yaml";
import type { Fault } from "./fault.ts";

/** No fault at all: the operator moves the virtual addresses. */
export const switchover = (from: string, to: string): Fault => ({
  what: `switchover from ${from} to ${to}`,
  inject: (lab) => lab.subject.switchover(from, to),
  heal: (lab) => lab.subject.afterSwitchover(from),
});

/** A node is taken out, restarted meanwhile, and brought back at the end: its addresses stay with the other one. */
export const drainAndRestart = (node: string): Fault => ({
  what: `${node} drained, restarted and enabled`,
  inject: async (lab) => {
    await lab.subject.drain?.(node);
    await lab.subject.restart(node);
    await lab.steady(30_000);
    for (const each of lab.nodes) await lab.subject.synced(each);
  },
  heal: async (lab) => {
    await lab.subject.enable?.(node);
  },
});

/** One node after the other, each only when the one before serves again and has every connection. */
export const rollingRestart = (nodes: readonly string[]): Fault => ({
  what: `${nodes.join(", then ")} stopped and started again`,
  inject: async (lab) => {
    for (const node of nodes) {
      await lab.subject.restart(node);
      await lab.steady(30_000);
      for (const each of lab.nodes) await lab.subject.synced(each);
    }
  },
  heal: async () => {},
});

/** A backend is taken out of the site file, the addresses move, and it is put in again. */
export function backendsChange(from: string, to: string, pool: string, backend: string): Fault {
  let before: string | undefined;
  return {
    what: `${pool}/${backend} removed, switchover from ${from} to ${to}, added again`,
    inject: async (lab) => {
      before = readFileSync(lab.siteFile, "utf8");
      const changed = parseDocument(before);
      changed.deleteIn(["pools", pool, "backends", backend]);
      writeFileSync(lab.siteFile, String(changed));
      for (const node of lab.nodes) await lab.subject.reload(node);
      await lab.subject.switchover(from, to);
      writeFileSync(lab.siteFile, before);
      for (const node of lab.nodes) await lab.subject.reload(node);
    },
    heal: async (lab) => {
      if (before !== undefined) writeFileSync(lab.siteFile, before);
      await lab.subject.afterSwitchover(from);
    },
  };
}
