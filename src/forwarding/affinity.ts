/** Writes into the kernel's memory of clients: what other nodes tell, and who may not stay with a backend any more. */
import { ipBytes, ipFamily, ipFromBytes } from "../base/addresses.ts";
import { bytesEqual } from "../base/bytes.ts";
import type { AffinityEntry } from "../contracts/affinity.ts";
import type { ForwardService } from "../contracts/site.ts";
import type { NftElement, NftFamily, NftSet } from "../linux/nftables/model.ts";
import type { NftChange } from "../linux/nftables/diff.ts";
import type { NftablesService } from "../linux/nftables/service.ts";
import type { ElementRead } from "../linux/nftables/wire-objects.ts";
import { affinityMap, affinitySet, backendData, clientKey } from "./policy-affinity.ts";
import { connectionsMap, protocolsOf } from "./policy-direct.ts";
import { ofFamily } from "./policy-service.ts";
import { FAMILIES, TABLE, type TableInput, directDevices, directInputs, serviceInputs } from "./policy.ts";

/** Backends that may keep clients, per service and family, as a text that changes with them. */
export const keepersText = (input: TableInput): string =>
  [
    ...forEachMap(input).map(({ name, table, keepers }) => `${table} ${name} ${keepers.join(" ")}`),
    ...connectionMaps(input).map(({ set, keepers }) => `${set.name} ${keepers.join(" ")}`),
  ].join("\n");

interface AffinityMap {
  readonly name: string;
  readonly service: ForwardService;
  readonly table: NftFamily;
  readonly keepers: readonly string[];
}

/** Every service with affinity in every family that it has, with the data of backends that keep clients. */
function forEachMap(input: TableInput): AffinityMap[] {
  return FAMILIES.flatMap(({ family, table }) =>
    serviceInputs(input, family).flatMap(({ name, service, pool }): AffinityMap[] => {
      if (service.forward.affinity === undefined) return [];
      const keepers = pool.backends.filter(
        (one) => one.keepsClients && ipFamily(one.backend.at.address) === family,
      );
      return [
        {
          name,
          service,
          table,
          keepers: keepers.map((one) => backendData(service, one.backend.at).join(".")),
        },
      ];
    }),
  );
}

/** The connections of direct services, which end with their backend in the same way. */
const connectionMaps = (input: TableInput): { readonly set: NftSet; readonly keepers: readonly string[] }[] =>
  FAMILIES.flatMap(({ family }) =>
    directInputs(input, family).flatMap(({ input: one, link }) => {
      if (link === undefined || directDevices(input).length === 0) return [];
      const keepers = ofFamily(one.pool, family).filter((backend) => backend.keepsClients);
      const data = keepers.map(({ backend }) => ipBytes(backend.at.address).join("."));
      return protocolsOf(one).map((protocol) => ({
        set: connectionsMap(one.name, protocol, family),
        keepers: data,
      }));
    }),
  );

/** Takes clients of backends that may keep none out of the kernel's memory, in portions; yields how many. */
export async function* forgetClients(
  nftables: NftablesService,
  input: TableInput,
): AsyncGenerator<number, void> {
  const maps = [
    ...forEachMap(input).map(({ name, service, table, keepers }) => ({
      table,
      keepers,
      set: affinityMap(name, service, table === "ip" ? 4 : 6),
    })),
    ...connectionMaps(input).map((one) => ({ ...one, table: "netdev" as const })),
  ];
  for (const { table, set, keepers } of maps) {
    const allowed = new Set(keepers);
    // A packet that was on its way while we looked may have been remembered after we did.
    for (let round = 0; round < 3; round++) {
      const found = await nftables.elements({ family: table, table: TABLE }, set.name);
      const gone = found.filter(({ data }) => !(data instanceof Uint8Array && allowed.has(data.join("."))));
      if (gone.length === 0) break;
      for (const part of partsOf(gone))
        yield await write(nftables, part, (elements) => [
          { place: { family: table, table: TABLE }, op: "delete-elements", set, elements },
        ]);
    }
  }
}

export interface Remembered {
  readonly written: number;
  /** Of services or backends that this node does not have, or whose backend may keep no clients. */
  readonly refused: number;
}

/** What lives longer than what is there already by this part of its timeout is worth a write. */
const NEWS = 1 / 16;

/**
 * What another node told, in portions. Of two that disagree about a client the one that met it last is right, which is
 * the one whose entry lives longer. `current` is asked for each portion, since backends change meanwhile; where it
 * answers undefined, the rest is left out.
 */
export async function* rememberClients(
  nftables: NftablesService,
  current: () => TableInput | undefined,
  entries: readonly AffinityEntry[],
): AsyncGenerator<Remembered, void> {
  const byMap = new Map<string, AffinityEntry[]>();
  for (const one of entries) {
    const key = `${ipFamily(one.source) === 4 ? "ip" : "ip6"} ${one.service}`;
    const same = byMap.get(key);
    if (same) same.push(one);
    else byMap.set(key, [one]);
  }
  for (const [key, told] of byMap) {
    let held: ReadonlyMap<string, ElementRead> | undefined;
    for (const part of partsOf(told)) {
      const input = current();
      if (input === undefined) return;
      const map = forEachMap(input).find((one) => `${one.table} ${one.name}` === key);
      if (map !== undefined) held ??= await heldBy(nftables, map);
      yield map === undefined || held === undefined
        ? { written: 0, refused: part.length }
        : await rememberPart(nftables, map, held, part);
    }
  }
}

const heldBy = async (
  nftables: NftablesService,
  { table, name }: AffinityMap,
): Promise<Map<string, ElementRead>> =>
  new Map(
    (await nftables.elements({ family: table, table: TABLE }, affinitySet(name))).map((one) => [
      one.key.join("."),
      one,
    ]),
  );

async function rememberPart(
  nftables: NftablesService,
  { name, service, table, keepers }: AffinityMap,
  held: ReadonlyMap<string, ElementRead>,
  told: readonly AffinityEntry[],
): Promise<Remembered> {
  const timeout = service.forward.affinity?.timeout ?? 0;
  const allowed = new Set(keepers);
  const set = affinityMap(name, service, table === "ip" ? 4 : 6);
  const place = { family: table, table: TABLE } as const;
  let refused = 0;
  const news: NftElement[] = [];
  for (const { source, backend, port, expires } of told) {
    const data =
      ipFamily(backend) === ipFamily(source) ? backendData(service, { address: backend, port }) : undefined;
    if (data === undefined || !allowed.has(data.join("."))) {
      refused++;
      continue;
    }
    const element = { key: clientKey(service, source), data, timeout, expires: Math.min(expires, timeout) };
    const there = held.get(element.key.join("."));
    const left = there?.expires ?? 0;
    const same = there?.data instanceof Uint8Array && bytesEqual(there.data, data);
    if (there !== undefined && element.expires <= left + (same ? timeout * NEWS : 0)) continue;
    news.push(element);
  }
  const written = await write(nftables, news, (elements): NftChange[] => {
    const old = elements.flatMap((one) => held.get(one.key.join(".")) ?? []);
    const add: NftChange = { place, op: "add-elements", set, elements };
    return old.length === 0 ? [add] : [{ place, op: "delete-elements", set, elements: old }, add];
  });
  return { written, refused };
}

const PART = 1000;
function* partsOf<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += PART) yield all.slice(at, at + PART);
}

/** One transaction; where it is refused, since an element came or went meanwhile, one for each element. */
async function write(
  nftables: NftablesService,
  part: readonly NftElement[],
  changes: (part: readonly NftElement[]) => NftChange[],
): Promise<number> {
  if (part.length === 0) return 0;
  try {
    await nftables.apply(changes(part));
    return part.length;
  } catch {
    let done = 0;
    for (const one of part)
      await nftables.apply(changes([one])).then(
        () => done++,
        () => undefined,
      );
    return done;
  }
}

/** A map's elements as other nodes understand them. */
export function entriesOf(service: string, elements: readonly ElementRead[], width: 4 | 16): AffinityEntry[] {
  return elements.flatMap(({ key, data, expires }): AffinityEntry[] => {
    if (!(data instanceof Uint8Array) || key.length !== width || data.length < width || expires === undefined)
      return [];
    const port = data.length >= width + 2 ? ((data[width] ?? 0) << 8) | (data[width + 1] ?? 0) : 0;
    return [
      { service, source: ipFromBytes(key), backend: ipFromBytes(data.subarray(0, width)), port, expires },
    ];
  });
}
