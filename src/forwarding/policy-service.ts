/** One service in one family: its chain, and the maps that the chain reads. */
import { type Family, formatIpPort, ipBytes, ipFamily } from "../base/addresses.ts";
import { bytesEqual } from "../base/bytes.ts";
import { CONSISTENT } from "../balancing/consistent.ts";
import { MAGLEV_SLOTS, maglev } from "../balancing/maglev.ts";
import { smoothSequence } from "../balancing/smooth.ts";
import type { Weighted } from "../balancing/hash.ts";
import type { ForwardService, Listen } from "../contracts/site.ts";
import {
  concat,
  hostU32,
  immediate,
  isEqual,
  lookup,
  payload,
  sourceAddress,
  u16Bytes,
} from "../linux/nftables/expressions.ts";
import {
  type Expression,
  type NftChain,
  type NftRule,
  type NftSet,
  type NftType,
  elementKey,
} from "../linux/nftables/model.ts";
import type { BackendDecision, PoolDecision } from "./machine.ts";
import { MARK_MASK, serviceMark } from "./marks.ts";
import { affinityParts } from "./policy-affinity.ts";

export const PROTOCOLS = { tcp: 6, udp: 17 } as const;
export const addressType = (family: Family): NftType => (family === 4 ? "ipv4" : "ipv6");
/** Registers that an address takes. */
export const addressWords = (family: Family): number => (family === 4 ? 1 : 4);

export interface ServiceInput {
  readonly name: string;
  readonly service: ForwardService;
  readonly family: Family;
  /** Of this family only. */
  readonly listen: readonly Listen[];
  readonly pool: PoolDecision;
  readonly id: number;
  /** Of the site: all nodes hash alike. */
  readonly seed: number;
  /** Instead of the pool's, by backend: least connections. */
  readonly weights?: ReadonlyMap<string, number> | undefined;
}

const isRange = (listen: Listen): boolean => listen.ports[0] !== listen.ports[1];
/**
 * A range keeps the port on backends whose port is the range's first one; on any other backend all its ports
 * lead to the backend's single port.
 */
export const keepsPort = (listen: Listen, backend: BackendDecision): boolean =>
  isRange(listen) && backend.backend.at.port === listen.ports[0];

/** A dot never occurs in a service's name. */
export const chainOf = (name: string, listen: Listen): string =>
  isRange(listen) ? `service-${name}.${listen.ports[0]}` : `service-${name}`;

export const ofFamily = (pool: PoolDecision, family: Family): readonly BackendDecision[] =>
  pool.backends.filter((one) => ipFamily(one.backend.at.address) === family);

/** A prime, as maglev needs it. */
const MANY_SLOTS = 4093;
/** Beyond so many backends in the site file, whether they take connections or not, shares would get coarse. */
const FEW = 100;
const isConsistent = (input: ServiceInput): boolean => CONSISTENT.has(input.service.forward.scheduler);
export const slotCount = (input: ServiceInput): number =>
  isConsistent(input) && ofFamily(input.pool, input.family).length > FEW ? MANY_SLOTS : MAGLEV_SLOTS;

/** Which backend each slot leads to, by name; empty where nobody takes connections. */
export function slotsOf(input: ServiceInput): readonly string[] {
  return slotsAmong(input, ofFamily(input.pool, input.family));
}

function slotsAmong(input: ServiceInput, backends: readonly BackendDecision[]): readonly string[] {
  const weighted: Weighted[] = backends.map(({ name, weight }) => ({
    name,
    weight: weight === 0 ? 0 : (input.weights?.get(name) ?? weight),
  }));
  return isConsistent(input)
    ? maglev(weighted, slotCount(input), input.seed)
    : smoothSequence(weighted, MAGLEV_SLOTS);
}

export interface ServiceParts {
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
  /** Of the forward hook, where the choice has been made. */
  readonly forward: readonly NftRule[];
  /** Of postrouting, for the first packet of a connection. */
  readonly remember: readonly NftRule[];
}

/** Everything of one service in one family's table. Elements that `before` has alike are the same objects. */
export function serviceParts(input: ServiceInput, before?: ServiceParts): ServiceParts {
  const slots = slotsOf(input);
  const chains = new Map<string, Listen>();
  for (const listen of input.listen) chains.set(chainOf(input.name, listen), listen);
  const affinity = affinityParts(input.name, input.service, input.family, input.id);
  const limits = limitParts(input);
  const full = fullParts(input);
  const takers = ofFamily(input.pool, input.family).filter((one) => one.weight > 0);
  const sets: NftSet[] = [...limits.sets, ...full.sets, ...affinity.sets];
  const built: NftChain[] = [];
  let shared = false;
  for (const [name, listen] of chains) {
    // Also where nobody takes new connections: backends in drain keep their clients, within the limits.
    const rules = [...limits.rules, ...markRules(input), ...affinity.rules];
    const kept = takers.filter((one) => keepsPort(listen, one));
    if (takers.length === 0) rules.push(...rejectRules(input.family));
    else if (kept.length > 0 && kept.length < takers.length && !isConsistent(input)) {
      const turns = mixedTurns(input, listen, slots, kept, takers, before);
      sets.push(...turns.sets);
      rules.push(...turns.rules);
    } else {
      // Where there are both, the two rules hash to the same slot: what the first does not find, the second does.
      if (kept.length > 0) {
        const set = slotSet(input, `keep-${input.name}.${listen.ports[0]}`, slots, kept, false, before);
        sets.push(set);
        rules.push(chooseRule(input, set.name, false));
      }
      if (kept.length < takers.length) {
        rules.push(chooseRule(input, `slots-${input.name}`, true));
        shared = true;
      }
    }
    built.push({ name, rules });
  }
  if (shared) sets.push(slotSet(input, `slots-${input.name}`, slots, takers, true, before));
  const { remember } = affinity;
  return { sets, chains: [...built, ...limits.chains, ...full.chains], forward: full.rules, remember };
}

/**
 * In turn, over backends that keep a range's port and others: every rule draws a number of its own. The first says
 * whose turn it is, backends that keep the port or the others, and each of the two has its own sequence.
 */
function mixedTurns(
  input: ServiceInput,
  listen: Listen,
  slots: readonly string[],
  kept: readonly BackendDecision[],
  takers: readonly BackendDecision[],
  before: ServiceParts | undefined,
): { sets: NftSet[]; rules: NftRule[] } {
  const at = `${input.name}.${listen.ports[0]}`;
  const others = takers.filter((one) => !kept.includes(one));
  const names = new Set(kept.map((one) => one.name));
  const turn: NftSet = {
    name: `turn-${at}`,
    key: ["mark"],
    size: slotCount(input),
    elements: new Map(
      SLOT_KEYS.slice(0, slots.length)
        .filter((_, slot) => names.has(slots[slot] ?? ""))
        .map(({ key, name }) => [name, { key }]),
    ),
  };
  const keep = slotSet(input, `keep-${at}`, slotsAmong(input, kept), kept, false, before);
  const rest = slotSet(input, `rest-${at}`, slotsAmong(input, others), others, true, before);
  const choose = chooseRule(input, keep.name, false);
  return {
    sets: [turn, keep, rest],
    rules: [
      { ...choose, expressions: [...slotNumber(input), lookup(turn.name, 1), ...choose.expressions] },
      chooseRule(input, rest.name, true),
    ],
  };
}

/** What the flows room listens for: destroy and assured (bits of enum ip_conntrack_events). */
const EVENTS = 0x14;
/** From the first FIN or RST on, also the changes of the TCP state: what is closed is no connection to keep. */
export const CLOSING_EVENTS = EVENTS | 0x20;

function markRules(input: ServiceInput): NftRule[] {
  return [
    {
      comment: `service ${input.name}`,
      expressions: [
        { kind: "ct", key: "mark", register: 0 },
        {
          kind: "bitwise",
          from: 0,
          to: 0,
          mask: hostU32(~MARK_MASK >>> 0),
          xor: hostU32(serviceMark(input.id)),
        },
        { kind: "ct-set", key: "mark", register: 0 },
        immediate(0, hostU32(EVENTS)),
        { kind: "ct-set", key: "eventmask", register: 0 },
      ],
    },
  ];
}

/** ICMP 3/3 and ICMPv6 1/4: port unreachable. */
function rejectRules(family: Family, comment = "no backend takes connections"): NftRule[] {
  return [
    {
      comment,
      expressions: [
        { kind: "meta", key: "l4proto", register: 0 },
        isEqual(0, Uint8Array.of(PROTOCOLS.tcp)),
        { kind: "reject", type: "tcp-reset", code: 0 },
      ],
    },
    {
      comment,
      expressions: [{ kind: "reject", type: "icmp", code: family === 4 ? 3 : 4 }],
    },
  ];
}

/** Leaves a slot's number in register 1. */
function slotNumber(input: ServiceInput): Expression[] {
  const { family, seed } = input;
  const to = 1;
  if (!isConsistent(input)) return [{ kind: "numgen", to, modulus: MAGLEV_SLOTS, type: "incremental" }];
  const words = addressWords(family);
  const modulus = slotCount(input);
  if (input.service.forward.scheduler === "source")
    return [sourceAddress(family, 2), { kind: "jhash", from: 2, length: 4 * words, to, modulus, seed }];
  return [
    sourceAddress(family, 2),
    payload("transport", 0, 2, 2 + words),
    { kind: "jhash", from: 2, length: 4 * words + 4, to, modulus, seed },
  ];
}

/** Clients whose limits are kept at a time, per service: beyond it new clients go without. */
const CLIENTS = 65_535;
/** A client that sends nothing for so long, in milliseconds, begins its rate anew. */
const FORGET = 10_000;

/** What one client address may do; before anything else, and answered like a service without a backend. */
function limitParts(input: ServiceInput): { sets: NftSet[]; rules: NftRule[]; chains: NftChain[] } {
  const { limits } = input.service.forward;
  const { sourceConnections, sourceRate } = limits ?? {};
  if (!limits || (sourceConnections === undefined && sourceRate === undefined))
    return { sets: [], rules: [], chains: [] };
  const chain = `limit-${input.name}`;
  const key = [addressType(input.family)];
  const sets: NftSet[] = [];
  const rules: NftRule[] = [];
  const reject: Expression = { kind: "verdict", verdict: { code: "goto", chain } };
  const limit = (set: NftSet, comment: string, expression: Expression, op: "add" | "update"): void => {
    sets.push(set);
    rules.push({
      comment,
      expressions: [
        sourceAddress(input.family, 2),
        { kind: "dynset", op, set: set.name, key: 2, expressions: [expression] },
        reject,
      ],
    });
  };
  const base = { key, dynamic: true, size: CLIENTS, elements: new Map() };
  if (sourceRate !== undefined)
    limit(
      { ...base, name: `rate-${input.name}`, timeout: FORGET },
      "new connections per second of one client",
      { kind: "limit", rate: sourceRate, unit: 1, burst: limits.sourceBurst, over: true },
      "update",
    );
  if (sourceConnections !== undefined)
    limit(
      { ...base, name: `clients-${input.name}` },
      "connections of one client",
      { kind: "connlimit", count: sourceConnections, over: true },
      "add",
    );
  return { sets, rules, chains: [{ name: chain, rules: rejectRules(input.family, "a client's limit") }] };
}

/** NF_CT_STATE_BIT(IP_CT_NEW): the first packet, in the client's direction. */
const NEW = hostU32(8);

/**
 * How many connections one backend may have of this service. In the forward hook, since the backend is known only once
 * it has been chosen; what is over is answered at once, and a client that tries again is hashed anew.
 */
function fullParts(input: ServiceInput): { sets: NftSet[]; rules: NftRule[]; chains: NftChain[] } {
  const most = input.service.forward.limits?.backendConnections;
  if (most === undefined) return { sets: [], rules: [], chains: [] };
  const { family, id, name } = input;
  const chain = `full-${name}`;
  const set: NftSet = {
    name: `backends-${name}`,
    key: [addressType(family), "port"],
    dynamic: true,
    size: 4096,
    elements: new Map(),
  };
  const rule: NftRule = {
    comment: "connections of one backend",
    expressions: [
      { kind: "ct", key: "state", register: 0 },
      isEqual(0, NEW),
      { kind: "ct", key: "mark", register: 0 },
      { kind: "bitwise", from: 0, to: 0, mask: hostU32(MARK_MASK), xor: hostU32(0) },
      isEqual(0, hostU32(serviceMark(id))),
      { kind: "ct", key: family === 4 ? "src-ip" : "src-ip6", register: 2, direction: "reply" },
      { kind: "ct", key: "proto-src", register: 2 + addressWords(family), direction: "reply" },
      {
        kind: "dynset",
        op: "add",
        set: set.name,
        key: 2,
        expressions: [{ kind: "connlimit", count: most, over: true }],
      },
      { kind: "verdict", verdict: { code: "goto", chain } },
    ],
  };
  return {
    sets: [set],
    rules: [rule],
    chains: [{ name: chain, rules: rejectRules(family, "a backend is full") }],
  };
}

const CHOOSE = "choose a backend";
// One lookup: nft 1.0.6 aborts on listing a rule that looks up what it looked up.
function chooseRule(input: ServiceInput, slots: string, withPort: boolean): NftRule {
  const { family } = input;
  const address = 2;
  const port = address + addressWords(family);
  return {
    comment: withPort ? CHOOSE : `${CHOOSE}, keep the port`,
    expressions: [
      ...slotNumber(input),
      lookup(slots, 1, address),
      { kind: "nat", type: "dnat", family, address, ...(withPort ? { ports: [port, port] as const } : {}) },
    ],
  };
}

const sockets = new WeakMap<BackendDecision["backend"], Uint8Array>();
/** A backend's address and port as a map's data, or the address alone. */
export function target({ backend }: BackendDecision, withPort: boolean): Uint8Array {
  const { address, port } = backend.at;
  let both = sockets.get(backend);
  if (!both) sockets.set(backend, (both = concat(ipBytes(address), u16Bytes(port))));
  return withPort ? both : both.subarray(0, -4);
}

/** The keys of all slots, and as what a set's elements are found. */
const SLOT_KEYS = Array.from({ length: MANY_SLOTS }, (_, slot) => {
  const key = hostU32(slot);
  return { key, name: elementKey({ key }) };
});

interface Slots {
  readonly slots: readonly string[];
  readonly targets: ReadonlyMap<string, Uint8Array>;
}
/** What a set of slots was made from: the next one takes over what stays, and looks only at what does not. */
const madeFrom = new WeakMap<NftSet, Slots>();

/** The slots that lead to these backends. */
function slotSet(
  input: ServiceInput,
  name: string,
  slots: readonly string[],
  backends: readonly BackendDecision[],
  withPort: boolean,
  before: ServiceParts | undefined,
): NftSet {
  const targets = new Map(backends.map((one) => [one.name, target(one, withPort)]));
  const old = before?.sets.find((one) => one.name === name);
  const last = old && madeFrom.get(old);
  const usable =
    last?.slots.length === slots.length &&
    [...targets].every(([key, data]) => {
      const known = last.targets.get(key);
      return known === undefined || bytesEqual(known, data);
    });
  const elements = new Map(usable ? old?.elements : []);
  slots.forEach((backend, slot) => {
    if (usable && last.slots[slot] === backend) return;
    const data = targets.get(backend);
    const at = SLOT_KEYS[slot];
    if (!at) return;
    if (data) elements.set(at.name, { key: at.key, data });
    else elements.delete(at.name);
  });
  const type = addressType(input.family);
  const set: NftSet = {
    name,
    key: ["mark"],
    data: withPort ? [type, "port"] : [type],
    size: slotCount(input),
    elements,
  };
  madeFrom.set(set, { slots, targets });
  return set;
}

export const showListen = (listen: Listen): string => {
  const at = formatIpPort({ address: listen.address, port: listen.ports[0] });
  return `${at}${isRange(listen) ? `-${listen.ports[1]}` : ""}/${listen.protocol}`;
};
