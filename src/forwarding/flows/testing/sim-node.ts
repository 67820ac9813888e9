/**
 * A node of the simulation: power, a kernel, a flows process that may die and is started again, and a virtual router's
 * decision for each router, which stands outside of this room and is passed in.
 */
import { serviceMark } from "../../marks.ts";
import type { ReplicatedService } from "../machine-services.ts";
import {
  type FlowsSaid,
  type RouterHost,
  type SimRouter,
  type SimService,
  type World,
  ends,
  share,
} from "./sim-contracts.ts";
import { SimKernel } from "./sim-kernel.ts";
import { SimProcess } from "./sim-process.ts";

export class SimNode {
  readonly index: number;
  readonly world: World;
  readonly kernel: SimKernel;
  process: SimProcess | undefined;
  readonly routers = new Map<string, SimRouter>();
  /** Routers whose addresses are here. */
  readonly holds = new Set<string>();
  /** Of its site file. */
  services: readonly SimService[];
  reloadedAt = Number.NEGATIVE_INFINITY;
  #powered = false;

  constructor(world: World, index: number, services: readonly SimService[]) {
    this.world = world;
    this.index = index;
    this.services = services;
    this.kernel = new SimKernel(world.queue, world.random);
  }
  get powered(): boolean {
    return this.#powered;
  }
  mark(service: string): number {
    // Numbers differ between nodes.
    return serviceMark(10 * (this.index + 1) + this.world.services.findIndex(({ name }) => name === service));
  }
  has(service: string): boolean {
    return this.services.some(({ name }) => name === service);
  }

  powerOn(): void {
    if (this.#powered) return;
    this.#powered = true;
    this.say("boots");
    this.world.network.powerOn(this.index);
    for (const router of this.world.routerNames)
      this.routers.set(router, this.world.makeRouter(this.#host(router)));
    this.startProcess();
  }
  powerOff(): void {
    if (!this.#powered) return;
    this.#powered = false;
    this.say("loses its power");
    this.killProcess();
    this.world.network.powerOff(this.index);
    this.kernel.powerOff();
    for (const router of this.routers.values()) router.end();
    this.routers.clear();
    this.holds.clear();
  }
  killProcess(): void {
    const { process } = this;
    if (process === undefined) return;
    this.say("flows process dies");
    this.process = undefined;
    process.kill();
    this.#tellRouters();
  }
  startProcess(): void {
    if (!this.#powered || this.process !== undefined) return;
    const { world, index, kernel } = this;
    const process: SimProcess = new SimProcess({
      queue: world.queue,
      random: world.random,
      network: world.network,
      kernel,
      index,
      nodes: world.nodes.length,
      name: (other) => world.name(other),
      instance: `i${world.nextInstance++}`,
      at: (other) => world.nodes[other]?.process,
      changed: () => this.#tellRouters(),
      refused: (peer, refusal) => {
        if (refusal !== "silence") world.broken(`n${index} refused n${peer}: ${refusal}`);
      },
      say: (what) => this.say(`flows: ${what}`),
      trace: world.trace ? (what, { original }) => this.say(`  ${what} ${ends(original)}`) : undefined,
    });
    this.process = process;
    this.say("flows process starts");
    // It reads the site file and the kernel's tables; from the redundancy process it hears which router is active.
    this.#later(1 + world.random.next() * 60, process, () => this.configure());
    this.#later(1 + world.random.next() * 60, process, () => this.#tellActive());
    this.#tellRouters();
  }
  configure(): void {
    const services: ReplicatedService[] = this.services.map(({ name, router, masqueraded }) => ({
      name,
      router,
      mark: this.mark(name),
      ...(masqueraded && {
        shares: this.world.nodes.map((_, index) => ({ node: this.world.name(index), ports: share(index) })),
      }),
    }));
    this.process?.configure(services);
  }
  say(what: string): void {
    this.world.say(`n${this.index} ${what}`);
  }

  #later(after: number, process: SimProcess, run: () => void): void {
    this.world.queue.add(this.world.queue.now + after, () => {
      if (this.process === process && !process.closed) run();
    });
  }
  #tellActive(): void {
    const active = [...this.routers].filter(([, { active }]) => active).map(([name]) => name);
    this.process?.setActive(new Set(active));
  }
  /** The flows process's report, a moment later. */
  #tellRouters(): void {
    const { world, process } = this;
    world.queue.add(world.queue.now + 0.2, () => {
      if (this.process !== process || !this.#powered) return;
      const said = process === undefined ? undefined : this.#said(process);
      for (const router of this.routers.values()) router.flows(said);
    });
  }
  #said(process: SimProcess): FlowsSaid {
    const peers = [...process.peers.values()];
    const connected = (all: boolean): string[] =>
      peers.flatMap(({ machine, index }) =>
        machine.isConnected && machine.receivedAll === all ? [this.world.name(index)] : [],
      );
    return { synced: connected(true), arriving: connected(false) };
  }

  #host(router: string): RouterHost {
    const { world, index } = this;
    return {
      world,
      index,
      router,
      life: world.nextInstance++,
      send: (to, deliver) =>
        world.network.datagram(index, to, () => {
          const there = world.nodes[to]?.routers.get(router);
          if (there !== undefined) deliver(there);
        }),
      hold: () => {
        if (this.holds.has(router)) return;
        this.holds.add(router);
        world.holds(this, router);
      },
      release: () => void this.holds.delete(router),
      announce: () => world.announced(this, router),
      changed: (name, reason) => {
        this.say(`${router} ${name}: ${reason}`);
        const { process } = this;
        if (process !== undefined)
          this.#later(0.2 + world.random.next() * 2, process, () => this.#tellActive());
      },
      flush: (id, to, within) => this.#flush(router, id, to, within),
    };
  }
  #flush(router: string, id: number, to: string, within: number): void {
    const { world, process } = this;
    const boot = this.kernel.boot;
    let answered = false;
    const answer = (missing: string): void => {
      if (answered || this.kernel.boot !== boot || !this.#powered) return;
      answered = true;
      this.say(`${router} flush to ${to}: ${missing === "" ? "acknowledged" : missing}`);
      if (missing === "") world.flushed(this, router, to);
      this.routers.get(router)?.flushed(id);
    };
    world.queue.add(world.queue.now + within, () => answer("no answer"));
    if (process === undefined) {
      world.queue.add(world.queue.now, () => answer("no process"));
      return;
    }
    const index = world.nodes.findIndex((_, i) => world.name(i) === to);
    this.#later(0.2, process, () =>
      process.flush(within, index, (missing) => this.#later(0.2, process, () => answer(missing))),
    );
  }
}
