import { ipBytes } from "../../base/addresses.ts";
import type { Clock } from "../../base/time.ts";
import { Conntrack } from "../../linux/conntrack.ts";
import { IPPROTO } from "../../linux/constants.ts";
import { type Flow, bytesSame } from "../../linux/wire-conntrack.ts";
import type { FlowSelector, FlowTable } from "../ports.ts";

/** The kernel's connection table for the forwarder: flows of backends that went are cut there. */
export function flowTable(clock: Clock): FlowTable & { close(): void } {
  const table = Conntrack.open(clock);
  return {
    cut: async (which) => {
      const found = new Map<string, Flow>();
      for (const selector of which) {
        const { family, mark, mask } = selector;
        const backend = ipBytes(selector.backend);
        await table.each({ family, mark: { value: mark, mask } }, (flow) => {
          if (matches(flow, selector, backend)) found.set(`${flow.id} ${flow.original.sourcePort}`, flow);
        });
      }
      const flows = [...found.values()];
      const refused = await table.delete(flows);
      return flows.length - refused.length;
    },
    close: () => table.close(),
  };
}

const matches = (flow: Flow, selector: FlowSelector, backend: Uint8Array): boolean =>
  flow.protocol === (selector.protocol === "tcp" ? IPPROTO.TCP : IPPROTO.UDP) &&
  bytesSame(flow.reply.source, backend) &&
  (selector.port === undefined || flow.reply.sourcePort === selector.port);
