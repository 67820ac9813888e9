import { type NftFamily } from "./model.ts";
import type { NetlinkMessage } from "../wire-netlink.ts";
import { Attributes } from "./wire-attributes.ts";
import { MSG, familyOnly, readChain, readRule } from "./wire-objects.ts";

/** What anybody's tables do in the forwarding path, and who sets marks. */
export interface NftSurvey {
  readonly dropping: readonly { readonly family: string; readonly table: string; readonly chain: string }[];
  readonly marking: readonly {
    readonly family: string;
    readonly table: string;
    readonly chain: string;
    readonly what: "packet mark" | "connection mark";
  }[];
}

type Dump = (what: string, request: { type: number; body: Uint8Array }) => Promise<NetlinkMessage[]>;

const FAMILIES: readonly NftFamily[] = ["ip", "ip6", "inet"];

/** Looks at every table of this namespace, except those whose names begin with `own`. */
export async function surveyTables(dump: Dump, own: string): Promise<NftSurvey> {
  const dropping: NftSurvey["dropping"][number][] = [];
  const marking: NftSurvey["marking"][number][] = [];
  for (const family of FAMILIES) {
    const body = familyOnly(family);
    for (const { payload } of await dump("nftables: read chains", { type: MSG.GETCHAIN, body })) {
      const { table, chain } = readChain(payload, family);
      if (table.startsWith(own) || chain.hook?.hook !== "forward" || chain.hook.policy !== "drop") continue;
      dropping.push({ family, table, chain: chain.name });
    }
    for (const { payload } of await dump("nftables: read rules", { type: MSG.GETRULE, body })) {
      const table = new Attributes(payload, 4).string(1) ?? "";
      const { chain, rule } = readRule(payload);
      if (table.startsWith(own)) continue;
      for (const each of rule.expressions) {
        if ((each.kind !== "meta-set" && each.kind !== "ct-set") || each.key !== "mark") continue;
        const what = each.kind === "meta-set" ? "packet mark" : "connection mark";
        const known = marking.some((one) => one.table === table && one.chain === chain && one.what === what);
        if (!known) marking.push({ family, table, chain, what });
      }
    }
  }
  return { dropping, marking };
}
