import { type NftChain, type NftFamily, type NftRule } from "./model.ts";
import type { NetlinkMessage } from "../wire-netlink.ts";
import { type Admission, type SetKeys, closedInputs } from "./policy-input.ts";
import { Attributes } from "./wire-attributes.ts";
import {
  MSG,
  type Place,
  familyOnly,
  readChain,
  readElements,
  readRule,
  readSet,
  setElementsOf,
  tableName,
} from "./wire-objects.ts";

interface ChainPlace {
  readonly family: NftFamily;
  readonly table: string;
  readonly chain: string;
}

/** What anybody's tables do in the forwarding and input paths, and who sets marks. */
export interface NftSurvey {
  readonly dropping: readonly ChainPlace[];
  /** Input chains that refuse what no rule accepts. */
  readonly closed: readonly (ChainPlace & { readonly admits: readonly Admission[] })[];
  readonly marking: readonly (ChainPlace & { readonly what: "packet mark" | "connection mark" })[];
}

type Dump = (what: string, request: { type: number; body: Uint8Array }) => Promise<NetlinkMessage[]>;

const FAMILIES: readonly NftFamily[] = ["ip", "ip6", "inet"];

/** Looks at every table of this namespace, except those whose names begin with `own`. */
export async function surveyTables(dump: Dump, own: string): Promise<NftSurvey> {
  const dropping: NftSurvey["dropping"][number][] = [];
  const closed: NftSurvey["closed"][number][] = [];
  const marking: NftSurvey["marking"][number][] = [];
  for (const family of FAMILIES) {
    const body = familyOnly(family);
    const chains = new Map<string, NftChain[]>();
    for (const { payload } of await dump("nftables: read chains", { type: MSG.GETCHAIN, body })) {
      const { table, chain } = readChain(payload, family);
      if (table.startsWith(own)) continue;
      chains.set(table, [...(chains.get(table) ?? []), chain]);
      if (chain.hook?.hook !== "forward" || chain.hook.policy !== "drop") continue;
      dropping.push({ family, table, chain: chain.name });
    }
    const rules = new Map<string, Map<string, NftRule[]>>();
    for (const { payload } of await dump("nftables: read rules", { type: MSG.GETRULE, body })) {
      const table = new Attributes(payload, 4).string(1) ?? "";
      const { chain, rule } = readRule(payload);
      if (table.startsWith(own)) continue;
      const known = rules.get(table) ?? new Map<string, NftRule[]>();
      rules.set(table, known.set(chain, [...(known.get(chain) ?? []), rule]));
      for (const each of rule.expressions) {
        if ((each.kind !== "meta-set" && each.kind !== "ct-set") || each.key !== "mark") continue;
        const what = each.kind === "meta-set" ? "packet mark" : "connection mark";
        const seen = marking.some((one) => one.table === table && one.chain === chain && one.what === what);
        if (!seen) marking.push({ family, table, chain, what });
      }
    }
    for (const [table, list] of chains) {
      if (!list.some(({ hook }) => hook?.hook === "input")) continue;
      const sets = await setKeys(dump, { family, table });
      for (const one of closedInputs(list, rules.get(table) ?? new Map<string, NftRule[]>(), sets))
        closed.push({ family, table, ...one });
    }
  }
  return { dropping, closed, marking };
}

/** What the sets of a table hold, of those that have single keys of one field. */
async function setKeys(dump: Dump, place: Place): Promise<SetKeys> {
  const keys = new Map<string, Uint8Array[]>();
  for (const { payload } of await dump("nftables: read sets", { type: MSG.GETSET, body: tableName(place) })) {
    const { name, key, interval, data } = readSet(payload);
    if (key.length !== 1 || interval === true || data !== undefined) continue;
    const request = { type: MSG.GETSETELEM, body: setElementsOf(place, name) };
    const elements = await dump(`nftables: read set ${name}`, request);
    keys.set(
      name,
      elements.flatMap((message) => readElements(message.payload).map((one) => one.key)),
    );
  }
  return keys;
}
