import { OperationalError } from "../../base/errors.ts";
import { unreachable } from "../../base/result.ts";
import { NETLINK } from "../constants.ts";
import { KernelError } from "../native.ts";
import { type NetlinkRequest, NetlinkSocket } from "../netlink.ts";
import { NLM_F } from "../wire-netlink.ts";
import type { Clock } from "../../base/time.ts";
import type { NftChange } from "./diff.ts";
import {
  type NftChain,
  type NftElement,
  type NftFamily,
  type NftRule,
  type NftTable,
  elementKey,
} from "./model.ts";
import {
  BATCH_RESOURCE,
  type ElementRead,
  MSG,
  type Place,
  type TableInfo,
  chainBody,
  chainName,
  elementBodies,
  familyOnly,
  readChain,
  readElements,
  readGeneration,
  readRule,
  readSet,
  readTable,
  ruleBody,
  ruleName,
  setBody,
  setElementsOf,
  setName,
  tableBody,
  tableName,
} from "./wire-objects.ts";
import { type NftSurvey, surveyTables } from "./survey.ts";
import { AttributeWriter } from "./wire-attributes.ts";

interface Step extends NetlinkRequest {
  /** For the message when the kernel refuses it. */
  readonly what: string;
}

/**
 * nf_tables over one netlink socket. Tables with the owner flag belong to this socket: they are changed only
 * through the service that made or adopted them, and (unless persistent) go when it is closed.
 */
export class NftablesService {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }
  /** In the network namespace of the calling process. Throws a KernelError. */
  static open(clock: Clock): NftablesService {
    return new NftablesService(NetlinkSocket.open({ protocol: NETLINK.NETFILTER, clock }));
  }
  /** The netlink port by which the kernel knows this socket as a table's owner. */
  get port(): number {
    return this.#socket.portid;
  }
  close(): void {
    this.#socket.close();
  }

  /** All changes in one transaction: all take effect at one moment, or none and it rejects. */
  async apply(changes: readonly NftChange[]): Promise<void> {
    if (changes.length === 0) return;
    const steps = changes.flatMap((change, index) => encodeChange(change, index + 1));
    const requests: NetlinkRequest[] = [
      { type: MSG.BATCH_BEGIN, body: batchBody },
      ...steps,
      { type: MSG.BATCH_END, body: batchBody },
    ];
    const refused = await this.#socket.batch("nftables transaction", requests, steps.length);
    const [first] = refused;
    if (!first) return;
    const what = steps[first.index - 1]?.what ?? "transaction";
    const more = refused.length > 1 ? `; ${refused.length - 1} more refused` : "";
    throw new KernelError(`nftables: ${what}`, first.errno, `${first.text}${more}`);
  }

  /** Grows by one with every transaction of anybody in this network namespace. */
  async generation(): Promise<number> {
    const [answer] = await this.#socket.request("nftables generation", {
      type: MSG.GETGEN,
      body: familyOnly("inet"),
    });
    return answer ? readGeneration(answer.payload) : 0;
  }

  async tableInfo(place: Place): Promise<TableInfo | undefined> {
    try {
      const [answer] = await this.#socket.request(`nftables: read table ${show(place)}`, {
        type: MSG.GETTABLE,
        body: tableName(place),
      });
      return answer && readTable(answer.payload);
    } catch (error) {
      if (error instanceof KernelError && error.errno === 2) return undefined;
      throw error;
    }
  }

  /**
   * The table as the kernel holds it; undefined where there is none. `elements` false leaves the sets empty:
   * enough to learn the handles of rules.
   */
  async read(family: NftFamily, name: string, elements = true): Promise<NftTable | undefined> {
    const place = { family, table: name };
    const info = await this.tableInfo(place);
    if (!info) return undefined;
    const what = `nftables: read table ${show(place)}`;
    const chains = (await this.#socket.dump(what, { type: MSG.GETCHAIN, body: familyOnly(family) }))
      .map((message) => readChain(message.payload, family))
      .filter((one) => one.table === name)
      .map((one) => one.chain);
    const rules = new Map<string, NftRule[]>();
    for (const message of await this.#socket.dump(what, { type: MSG.GETRULE, body: tableName(place) })) {
      const { chain, rule } = readRule(message.payload);
      rules.set(chain, [...(rules.get(chain) ?? []), rule]);
    }
    const sets = [];
    for (const message of await this.#socket.dump(what, { type: MSG.GETSET, body: tableName(place) })) {
      const set = readSet(message.payload);
      const held = set.dynamic || !elements ? [] : await this.elements(place, set.name);
      sets.push({ ...set, elements: new Map(held.map((one) => [elementKey(one), one])) });
    }
    return {
      family,
      name,
      // Owned by another socket counts as not owned: the difference then takes it over, or is refused.
      owner: info.owner && info.ownedBy === this.port,
      persist: info.persist,
      sets,
      chains: chains.map((chain): NftChain => ({ ...chain, rules: rules.get(chain.name) ?? [] })),
    };
  }

  /** What the tables of others do to forwarded packets and marks; what begins with `own` is left out. */
  survey(own: string): Promise<NftSurvey> {
    return surveyTables((what, request) => this.#socket.dump(what, request), own);
  }

  /** What a set holds now, with counters and remaining times. */
  async elements(place: Place, set: string): Promise<ElementRead[]> {
    const answers = await this.#socket.dump(`nftables: read set ${set} of ${show(place)}`, {
      type: MSG.GETSETELEM,
      body: setElementsOf(place, set),
    });
    return answers.flatMap((message) => readElements(message.payload));
  }
}

const batchBody = new AttributeWriter(0, BATCH_RESOURCE).finish();
const show = (place: Place): string => `${place.family} ${place.table}`;
const showElement = (element: NftElement | undefined, count: number): string => {
  const name =
    element?.comment ?? Array.from(element?.key ?? [], (b) => b.toString(16).padStart(2, "0")).join("");
  return count === 1 ? `element ${name}` : `${count} elements (${name}, ...)`;
};

function encodeChange(change: NftChange, id: number): Step[] {
  const { place } = change;
  const at = show(place);
  const flags = NLM_F.CREATE;
  switch (change.op) {
    case "add-table":
      return [{ what: `add table ${at}`, type: MSG.NEWTABLE, flags, body: tableBody(place, change) }];
    case "delete-table":
      return [{ what: `delete table ${at}`, type: MSG.DELTABLE, body: tableName(place) }];
    case "add-chain": {
      const { chain } = change;
      return [
        {
          what: `add chain ${chain.name} of ${at}`,
          type: MSG.NEWCHAIN,
          flags,
          body: chainBody(place, chain),
        },
      ];
    }
    case "delete-chain": {
      const body = chainName(place, change.chain);
      return [{ what: `delete chain ${change.chain} of ${at}`, type: MSG.DELCHAIN, body }];
    }
    case "add-rule": {
      const { rule, chain, before } = change;
      const what = `add rule ${rule.comment === undefined ? "" : `"${rule.comment}" `}to chain ${chain} of ${at}`;
      const mode = flags | (before === undefined ? NLM_F.APPEND : 0);
      return [{ what, type: MSG.NEWRULE, flags: mode, body: ruleBody(place, chain, rule, before) }];
    }
    case "delete-rule": {
      const body = ruleName(place, change.chain, change.handle);
      return [{ what: `delete rules of chain ${change.chain} of ${at}`, type: MSG.DELRULE, body }];
    }
    case "add-set": {
      const { set } = change;
      return [
        { what: `add set ${set.name} of ${at}`, type: MSG.NEWSET, flags, body: setBody(place, set, id) },
      ];
    }
    case "delete-set":
      return [
        { what: `delete set ${change.set} of ${at}`, type: MSG.DELSET, body: setName(place, change.set) },
      ];
    case "add-elements":
    case "delete-elements": {
      const add = change.op === "add-elements";
      const { set, elements } = change;
      const what = `${add ? "add" : "delete"} ${showElement(elements[0], elements.length)} of set ${set.name} of ${at}`;
      return elementBodies(place, set, elements, add).map((body) => ({
        what,
        type: add ? MSG.NEWSETELEM : MSG.DELSETELEM,
        flags: add ? flags : 0,
        body,
      }));
    }
    default:
      return unreachable(change);
  }
}

/** Whether this kernel has persistent tables with an owner (6.9 and later). Makes and deletes a small table. */
export async function probePersist(nftables: NftablesService): Promise<boolean> {
  const place: Place = { family: "inet", table: `nines-probe-${nftables.port}` };
  try {
    await nftables.apply([
      { place, op: "add-table", owner: true, persist: true },
      { place, op: "delete-table" },
    ]);
    return true;
  } catch (error) {
    if (error instanceof OperationalError && error.code !== "PERMISSION") return false;
    throw error;
  }
}
