/** Nodes, clients and what must hold at every moment. */
import { EventQueue } from "../../../base/event-queue.ts";
import { type Random, chance, randomInt, seededRandom } from "../../../base/random.ts";
import { type Flow, TCP_STATE, flowKey, tuplesSame } from "../../../linux/wire-conntrack.ts";
import { SimNetwork } from "./sim-network.ts";
import {
  type MakeRouter,
  type SimService,
  type World,
  type WorldNode,
  ends,
  share,
} from "./sim-contracts.ts";
import { SimNode } from "./sim-node.ts";
import { BATCH, WINDOW } from "./sim-process.ts";

export class InvariantBroken extends Error {
  override readonly name = "InvariantBroken";
}

/** Seconds that the model's kernels keep an entry: short, so that a run sees the end of all. */
export const LIFETIME = { tcp: 18, closing: 12, waiting: 3, closed: 1, udp: 14 } as const;
/** Clients of each node's segment have so many ports. */
const PORTS = 8;
/** Where a service's backends listen. */
const LISTEN = { web: 8080, dns: 8053, mail: 8025 } as Readonly<Record<string, number>>;

export interface Connection {
  readonly key: string;
  readonly flow: Flow;
  readonly service: SimService;
  /** The segment that its client is at: that of this node. */
  readonly home: number;
  state: "open" | "closing" | "closed" | "lost";
  tcpState: number;
  readonly openedAt: number;
  touchAt: number;
  endedAt: number;
  /** Nodes that have acknowledged it, and in which boot of theirs. */
  readonly safe: Map<number, number>;
}

export class SimWorld implements World {
  readonly queue = new EventQueue();
  readonly random: Random;
  readonly network: SimNetwork;
  readonly nodes: SimNode[] = [];
  readonly services: readonly SimService[];
  readonly routerNames: readonly string[];
  readonly interval: number;
  readonly preempt: boolean;
  readonly makeRouter: MakeRouter;
  readonly connections = new Map<string, Connection>();
  readonly count = { opened: 0, closed: 0, lost: 0, conflicts: 0, moved: 0, checked: 0 };
  readonly log: { readonly at: number; readonly what: string }[] = [];
  /** A replay: everything is told. */
  trace = false;
  nextInstance = 1;
  /** Clients come and go. */
  busy = true;
  frozen = false;
  /** Nothing fails from here on. */
  healed = false;
  /** Nothing that happens now may cost a connection. */
  calm = false;
  /** Whose announcement each segment heard last, for each router. */
  readonly #believed: Map<string, number>[];
  /** Two clients that looked alike had it at two backends. */
  readonly #conflicts = new Set<string>();
  /** When two nodes were Active last. */
  readonly #split = new Map<string, number>();
  readonly #movedAt = new Map<string, number[]>();
  /** When a node that had not heard all became Active last. */
  readonly #unsureAt = new Map<string, number>();
  /** Before a hand-over: what the giver had sent and the taker had acknowledged. */
  readonly #handingOver = new Map<
    string,
    { readonly to: string; readonly at: number; readonly keys: Connection[] }
  >();

  constructor(seed: number, makeRouter: MakeRouter, masqueraded: boolean) {
    this.random = seededRandom(seed);
    this.makeRouter = makeRouter;
    const { random } = this;
    const count = chance(random, 0.6) ? 2 : randomInt(random, 3, 4);
    this.routerNames = chance(random, 0.3) ? ["edge", "core"] : ["edge"];
    this.interval = [200, 1000, 1000][randomInt(random, 0, 2)] ?? 200;
    this.preempt = chance(random, 0.5);
    this.services = [
      { name: "web", router: "edge", protocol: 6, masqueraded },
      { name: "dns", router: "edge", protocol: 17, masqueraded },
      { name: "mail", router: this.routerNames.at(-1) ?? "edge", protocol: 6, masqueraded: false },
    ];
    this.network = new SimNetwork(this.queue, random, count);
    for (let i = 0; i < count; i++) this.nodes.push(new SimNode(this, i, this.services));
    this.#believed = this.nodes.map(() => new Map());
    this.#traffic();
    this.#watch();
  }
  get now(): number {
    return this.queue.now;
  }
  name(index: number): string {
    return `n${index}`;
  }
  run(span: number): void {
    this.queue.runTo(this.now + span);
  }
  say(what: string): void {
    this.log.push({ at: this.now, what });
  }
  broken(what: string): never {
    if (this.trace) this.say(what);
    const log = this.log.slice(-60).map((one) => `${one.at.toFixed(1)} ${one.what}`);
    throw new InvariantBroken(`${what} at ${this.now.toFixed(1)} ms\n${log.join("\n")}`);
  }
  actives(router: string): SimNode[] {
    return this.nodes.filter((node) => node.routers.get(router)?.active === true);
  }
  describe(connection: Connection): string {
    const { original, reply } = connection.flow;
    return `${connection.service.name} ${ends(original)} -> ${reply.source.join(".")}`;
  }

  // Clients ------------------------------------------------------------------------------------------------

  announced(node: WorldNode, router: string): void {
    this.#believed.forEach((believed, home) => {
      if (home === node.index || !this.network.isCut("segment", node.index, home))
        believed.set(router, node.index);
    });
  }
  /** The node that a client's packets come to; none where nobody answers. */
  route(home: number, router: string): SimNode | undefined {
    const node = this.nodes[this.#believed[home]?.get(router) ?? -1];
    if (node === undefined || !node.powered || !node.holds.has(router)) return undefined;
    if (home !== node.index && this.network.isCut("segment", home, node.index)) return undefined;
    return node;
  }
  #flow(node: SimNode, { flow, service, tcpState }: Pick<Connection, "flow" | "service" | "tcpState">): Flow {
    return {
      ...flow,
      mark: node.mark(service.name),
      tcpState,
      timeout: lifetime(service.protocol, tcpState),
    };
  }

  open(): void {
    const { random } = this;
    const home = randomInt(random, 0, this.nodes.length - 1);
    const service = this.services[randomInt(random, 0, this.services.length - 1)];
    const node = service && this.route(home, service.router);
    if (service === undefined || node === undefined || !node.has(service.name)) return;
    // Now and then two clients that look alike: behind one translation, on both sides of a partition.
    const shown = chance(random, 0.02) ? 0 : home;
    const port = 1000 + randomInt(random, 1, PORTS);
    const backend = randomInt(random, 11, 13);
    const client = Uint8Array.of(10, 0, 1 + shown, 9);
    const listen = { web: 80, dns: 53 }[service.name] ?? 25;
    const source = Uint8Array.of(10, 1, 0, backend);
    const answers = {
      source,
      destination: client,
      sourcePort: LISTEN[service.name] ?? 0,
      destinationPort: port,
    };
    const reply = service.masqueraded ? this.#masquerade(node, service, answers) : answers;
    if (reply === undefined) return;
    const flow: Flow = {
      family: 4,
      protocol: service.protocol,
      original: {
        source: client,
        destination: Uint8Array.of(10, 0, 0, service.router === "edge" ? 1 : 2),
        sourcePort: port,
        destinationPort: listen,
      },
      reply,
      status: 0,
      mark: 0,
      timeout: 0,
      tcpState: 0,
      windowScales: service.protocol === 6 ? [7, 7] : undefined,
      id: 0,
      packets: 0,
      bytes: 0,
    };
    const key = flowKey(flow);
    const there = node.kernel.get(key);
    const lives = ["open", "closing"].includes(this.connections.get(key)?.state ?? "");
    if (there !== undefined && !closed(there.tcpState) && !lives) {
      // Left of an earlier one: UDP goes on with it, a SYN is answered by a reset, and the client tries again.
      if (service.protocol === 6) node.kernel.packet({ ...there, tcpState: TCP_STATE.CLOSE, timeout: 1 });
      return;
    }
    const before = this.connections.get(key);
    let both = false;
    if (before !== undefined && (before.state === "open" || before.state === "closing")) {
      if (before.home === home || !chance(random, 0.5)) return;
      // Another client with the same address and port: one of them will lose, which is what conflicts are.
      if (this.route(before.home, service.router) === node) return;
      before.state = "lost";
      both = true;
    }
    // A node that was Active as well, or was and has heard nothing since, still speaks for an earlier one.
    const elsewhere = this.nodes.some((one) => {
      const own = one === node ? undefined : one.process?.store.own.get(key);
      return own !== undefined && !tuplesSame(own.reply, flow.reply);
    });
    if (both || (elsewhere && !this.calm)) {
      this.count.conflicts++;
      this.#conflicts.add(key);
    } else this.#conflicts.delete(key);
    const connection: Connection = {
      key,
      flow,
      service,
      home,
      state: "open",
      tcpState: service.protocol === 6 ? TCP_STATE.ESTABLISHED : 0,
      openedAt: this.now,
      touchAt: 0,
      endedAt: 0,
      safe: new Map(),
    };
    this.connections.set(key, connection);
    this.count.opened++;
    this.#rest(connection);
    this.say(`${this.describe(connection)} opens at n${node.index}`);
    node.kernel.packet(this.#flow(node, connection));
  }
  /** By the first port of the node's own that is free. */
  #masquerade(
    node: SimNode,
    { protocol, router }: SimService,
    answers: Flow["reply"],
  ): Flow["reply"] | undefined {
    const destination = Uint8Array.of(10, 1, 0, router === "edge" ? 1 : 2);
    const [first, last] = share(node.index);
    for (let destinationPort = first; destinationPort <= last; destinationPort++) {
      const reply = { ...answers, destination, destinationPort };
      if (node.kernel.answering({ protocol, reply }) === undefined) return reply;
    }
    return undefined;
  }
  #rest(connection: Connection): void {
    const span = lifetime(connection.service.protocol, connection.tcpState) * 1000;
    // A copy that is taken over has two thirds of its time left, less a round of upkeep; and what a listing says of
    // its time is what is left of it.
    const idle = chance(this.random, 0.2) ? this.random.next() * 0.25 * span : this.random.next() * 1500;
    connection.touchAt = this.now + 60 + idle;
  }
  /** One step towards its end, if its packets reach anybody. */
  close(connection: Connection): void {
    const { service } = connection;
    const node = this.route(connection.home, service.router);
    if (service.protocol === 17 || node === undefined) {
      // The client is gone, and says so to nobody.
      this.#ended(connection, "closed");
      return;
    }
    if (!this.touch(connection, node)) return;
    const abrupt = chance(this.random, 0.2);
    const first = connection.tcpState < TCP_STATE.FIN_WAIT;
    connection.tcpState = abrupt ? TCP_STATE.CLOSE : first ? TCP_STATE.FIN_WAIT : TCP_STATE.TIME_WAIT;
    node.kernel.packet(this.#flow(node, connection));
    this.#rest(connection);
    if (connection.tcpState === TCP_STATE.FIN_WAIT) connection.state = "closing";
    else this.#ended(connection, "closed");
  }
  /** Every client sends a packet, so that what was lost is known; from here on nothing may be. */
  becomeCalm(): void {
    for (const connection of this.connections.values()) {
      const node = this.route(connection.home, connection.service.router);
      if (connection.state !== "open" && connection.state !== "closing") continue;
      if (node !== undefined) this.touch(connection, node);
      else if (this.actives(connection.service.router).some((one) => isWithout(one, connection)))
        this.#ended(connection, "lost"); // took over without it, and no packet has shown that yet
    }
    this.calm = true;
  }
  #ended(connection: Connection, how: "closed" | "lost"): void {
    connection.state = how;
    connection.endedAt = this.now;
    this.count[how]++;
    this.say(`${this.describe(connection)} ${how}`);
  }
  /** A packet of it comes to this node. False where that is its end. */
  touch(connection: Connection, node: SimNode): boolean {
    this.#rest(connection);
    if (node.kernel.touch(this.#flow(node, connection))) return true;
    this.#ended(connection, "lost");
    const { key, service } = connection;
    const what = `n${node.index} has no entry for ${this.describe(connection)}`;
    // The port was used again in the very moment in which the addresses moved: the one before looks alive to the next.
    if (this.#atHandover(connection)) return false;
    if (this.calm && !this.#conflicts.has(key)) this.broken(`${what}, with nothing that failed`);
    if (this.#conflicts.has(key)) return false;
    if (connection.safe.get(node.index) === node.kernel.boot && !this.#excused(node, key, service.name))
      this.broken(`${what}, which it has acknowledged`);
    return false;
  }
  /** Others removed it, and it may take a round until it is back; or its service has just come. */
  #excused(node: WorldNode, key: string, service: string): boolean {
    const removed = node.kernel.removed.get(key) ?? Number.NEGATIVE_INFINITY;
    if (node.kernel.yielded.has(key) && this.#isMisled(key)) return true;
    return this.now - removed < 4000 || !node.has(service) || this.now - node.reloadedAt < 1000;
  }

  /** Who is Active took over without all connections, and speaks of an earlier one that had the same port. */
  #isMisled(key: string): boolean {
    const connection = this.connections.get(key);
    if (connection === undefined) return false;
    const unsure = this.#unsureAt.get(connection.service.router) ?? Number.NEGATIVE_INFINITY;
    return connection.openedAt - unsure < 10_000 || this.#atHandover(connection);
  }
  #atHandover({ openedAt, service }: Connection): boolean {
    return (this.#movedAt.get(service.router) ?? []).some((at) => Math.abs(openedAt - at) < 60);
  }

  #traffic(): void {
    this.queue.add(this.now + 100, () => {
      this.#traffic();
      if (this.frozen) return;
      const { random } = this;
      for (const connection of this.connections.values()) {
        const { state, home, service } = connection;
        if ((state !== "open" && state !== "closing") || connection.touchAt > this.now) continue;
        if (chance(random, this.busy ? 0.15 : 1) || state === "closing") this.close(connection);
        else {
          const node = this.route(home, service.router);
          if (node !== undefined) this.touch(connection, node);
        }
      }
      if (this.busy && chance(random, 0.6)) for (let n = randomInt(random, 1, 2); n > 0; n--) this.open();
    });
  }

  // What must hold -----------------------------------------------------------------------------------------

  /** The giver's process has answered that all is acknowledged by `to`. */
  flushed(giver: WorldNode, router: string, to: string): void {
    const keys = [...this.connections.values()].filter(
      ({ state, service, key, flow }) =>
        (state === "open" || state === "closing") &&
        service.router === router &&
        giver.has(service.name) &&
        this.now - this.connections.get(key)!.openedAt > 40 &&
        giver.process?.listing === false &&
        !giver.kernel.overrunning &&
        sameBackend(giver.kernel.backend(key), flow),
    );
    this.#handingOver.set(router, { to, at: this.now, keys });
  }
  /** The addresses of a router come to a node. */
  holds(node: WorldNode, router: string): void {
    node.say(`holds the addresses of ${router}`);
    this.#movedAt.set(router, [...(this.#movedAt.get(router) ?? []), this.now]);
    if (!isWhole(node)) this.#unsureAt.set(router, this.now);
    const handing = this.#handingOver.get(router);
    if (handing === undefined) return;
    if (handing.to !== this.name(node.index) || this.now - handing.at > 1500) return;
    this.#handingOver.delete(router);
    this.count.moved++;
    for (const { key, state, flow, service } of handing.keys) {
      if (
        state === "closed" ||
        state === "lost" ||
        this.#conflicts.has(key) ||
        this.#excused(node, key, service.name)
      )
        continue;
      if (this.connections.get(key)?.flow !== flow) continue;
      if (!sameBackend(node.kernel.backend(key), flow))
        this.broken(
          `n${node.index} takes over ${router} without ${this.describe(this.connections.get(key)!)}`,
        );
    }
  }

  #watch(): void {
    this.queue.add(this.now + 250, () => {
      this.#watch();
      for (const router of this.routerNames)
        if (this.actives(router).length > 1) this.#split.set(router, this.now);
      for (const node of this.nodes) {
        // Nobody can tell it what was removed.
        if (!isWhole(node))
          for (const key of node.kernel.removed.keys()) node.kernel.removed.set(key, this.now);
        this.#acknowledged(node);
      }
    });
  }
  /** Whether every node that is Active for it has acknowledged it. */
  #known({ safe, service }: Connection): boolean {
    return this.actives(service.router).every(({ index, kernel }) => safe.get(index) === kernel.boot);
  }
  #splitAt(router: string): number {
    return this.#split.get(router) ?? Number.NEGATIVE_INFINITY;
  }
  /** Where a node says that a peer has acknowledged all it has, the peer's kernel has it. */
  #acknowledged(node: SimNode): void {
    const { process } = node;
    if (process === undefined) return;
    const whole: SimNode[] = [];
    for (const { index, machine, end } of process.peers.values()) {
      const { sentAll, unacknowledged } = machine.status;
      if (unacknowledged > this.connections.size + 2 * BATCH * WINDOW)
        this.broken(`n${node.index} keeps ${unacknowledged} entries for n${index}`);
      const peer = this.nodes[index];
      if (sentAll && unacknowledged === 0 && end?.other.open === true && peer !== undefined) whole.push(peer);
    }
    if (whole.length === 0) return;
    for (const key of process.store.own.keys()) {
      const connection = this.connections.get(key);
      const own = process.store.own.get(key);
      if (connection === undefined || own === undefined || connection.state !== "open") continue;
      // The kernel's word, not only the process's, whose news may be a moment old.
      if (!sameBackend(own.reply, connection.flow) || !sameBackend(node.kernel.backend(key), connection.flow))
        continue;
      for (const peer of whole) {
        this.count.checked++;
        if (this.#conflicts.has(key)) continue;
        if (this.#excused(peer, key, connection.service.name)) continue;
        const there = peer.kernel.backend(key);
        if (sameBackend(there, connection.flow)) connection.safe.set(peer.index, peer.kernel.boot);
        // Another node was Active as well, and speaks of it as well: until they agree either may be here.
        else if (this.now - this.#splitAt(connection.service.router) < 10_000) continue;
        // Or the Active took over without it, and has an earlier one of the same port.
        else if (there !== undefined && !this.#known(connection)) this.#conflicts.add(key);
        // Between the one and the other there is none for a moment.
        else if (peer.process?.working === true && !this.#known(connection)) continue;
        else
          this.broken(
            `n${peer.index} has acknowledged ${this.describe(connection)} to n${node.index} and ${there === undefined ? "has it not" : `has ${there.source.join(".")}`}`,
          );
      }
    }
  }
}

const closed = (tcpState: number): boolean =>
  tcpState === TCP_STATE.TIME_WAIT || tcpState === TCP_STATE.CLOSE;

export const sameBackend = (reply: Flow["reply"] | undefined, flow: Flow): boolean =>
  reply === flow.reply || (reply !== undefined && tuplesSame(reply, flow.reply));

const isWithout = ({ kernel }: SimNode, { key, flow }: Connection): boolean =>
  !sameBackend(kernel.backend(key), flow);
/** Its process runs and has heard all that its peers have to say. */
const isWhole = ({ process }: Pick<WorldNode, "process">): boolean =>
  process !== undefined &&
  [...process.peers.values()].every(
    ({ machine: { isConnected, receivedAll } }) => isConnected && receivedAll,
  );

function lifetime(protocol: number, tcpState: number): number {
  if (protocol === 17) return LIFETIME.udp;
  if (tcpState === TCP_STATE.TIME_WAIT) return LIFETIME.waiting;
  if (tcpState === TCP_STATE.CLOSE) return LIFETIME.closed;
  return tcpState === TCP_STATE.ESTABLISHED ? LIFETIME.tcp : LIFETIME.closing;
}
