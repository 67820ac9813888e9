/**
 * What the parts of the simulation need of each other: a node of its world, a virtual router of its node. The routers'
 * decisions stand outside of this room and are passed in.
 */
import type { EventQueue } from "../../../base/event-queue.ts";
import type { Random } from "../../../base/random.ts";
import type { Flow } from "../../../linux/wire-conntrack.ts";
import type { SimKernel } from "./sim-kernel.ts";
import type { SimNetwork } from "./sim-network.ts";
import type { SimProcess } from "./sim-process.ts";

/** A node, as others see it. */
export interface WorldNode {
  readonly index: number;
  readonly kernel: SimKernel;
  readonly process: SimProcess | undefined;
  readonly routers: ReadonlyMap<string, SimRouter>;
  readonly reloadedAt: number;
  has(service: string): boolean;
  say(what: string): void;
}
/** The world, as a node sees it. */
export interface World {
  readonly queue: EventQueue;
  readonly random: Random;
  readonly network: SimNetwork;
  readonly nodes: readonly WorldNode[];
  readonly services: readonly SimService[];
  readonly routerNames: readonly string[];
  /** Of the routers' advertisements, in ms. */
  readonly interval: number;
  readonly preempt: boolean;
  readonly now: number;
  /** A replay: everything is told. */
  readonly trace: boolean;
  /** Nothing fails from here on. */
  readonly healed: boolean;
  readonly makeRouter: MakeRouter;
  nextInstance: number;
  name(index: number): string;
  say(what: string): void;
  broken(what: string): never;
  announced(node: WorldNode, router: string): void;
  flushed(giver: WorldNode, router: string, to: string): void;
  holds(node: WorldNode, router: string): void;
}

/** What a flows process says to the virtual routers: as redundancy/flows-link.ts makes of its report. */
export interface FlowsSaid {
  readonly synced: readonly string[];
  readonly arriving: readonly string[];
}
/** A virtual router of one node. */
export interface SimRouter {
  readonly active: boolean;
  flows(said: FlowsSaid | undefined): void;
  flushed(id: number): void;
  switchover(to: string): void;
  /** The node lost its power. */
  end(): void;
}
/** What it may do. */
export interface RouterHost {
  readonly world: World;
  readonly index: number;
  readonly router: string;
  readonly life: number;
  /** To the same router at the other nodes, by datagram. */
  send(to: number, deliver: (router: SimRouter) => void): void;
  hold(): void;
  release(): void;
  announce(): void;
  changed(name: string, reason: string): void;
  flush(id: number, to: string, within: number): void;
}
export type MakeRouter = (host: RouterHost) => SimRouter;

export interface SimService {
  readonly name: string;
  readonly router: string;
  readonly protocol: 6 | 17;
  /** Backends see an address of the nodes, and one of few ports, of which each node has its own. */
  readonly masqueraded: boolean;
}

/** Masqueraded connections of one node to one backend: so few that each port is used again at once. */
const SHARE = 3;
/** First and last of a node's own ports. */
export const share = (index: number): readonly [number, number] => [
  2000 + SHARE * index,
  1999 + SHARE * (index + 1),
];

/** For people. */
export const ends = ({ source, sourcePort, destination, destinationPort }: Flow["original"]): string =>
  `${source.join(".")}:${sourcePort}>${destination[3]}:${destinationPort}`;
