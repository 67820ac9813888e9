/** Carries out in this node's kernel what the store decides, and counts what the kernel refuses, by its reason. */
import type { Conntrack } from "../../linux/conntrack.ts";
import { ERRNO } from "../../linux/constants.ts";
import { errnoName } from "../../linux/native.ts";
import { type Flow, type FlowPlan, tuplesSame } from "../../linux/wire-conntrack.ts";
import { halfOpen } from "./machine-flow.ts";
import type { FlowStore } from "./machine-store.ts";
import type { StoreEffects } from "./store-effects.ts";

export interface KernelFlowsOptions {
  readonly table: Conntrack;
  readonly store: Pick<FlowStore, "lost" | "clash">;
  /** To the peers. */
  readonly tell: (effects: Pick<StoreEffects, "tell">) => void;
}

export class KernelFlows {
  readonly #table: Conntrack;
  readonly #store: KernelFlowsOptions["store"];
  readonly #tell: KernelFlowsOptions["tell"];
  readonly #count: Record<string, number> = { injected: 0, removed: 0, refusedByKernel: 0 };

  constructor({ table, store, tell }: KernelFlowsOptions) {
    this.#table = table;
    this.#store = store;
    this.#tell = tell;
  }
  /** `refusedByKernel`, and of it `refusedByKernel_ENOSPC` and such. */
  get counters(): Readonly<Record<string, number>> {
    return this.#count;
  }

  get(flow: Flow): Promise<Flow | undefined> {
    return this.#table.get(flow);
  }

  async apply(effects: StoreEffects): Promise<void> {
    if (effects.delete.length > 0) {
      const missing = await this.#table.delete(effects.delete);
      this.#add("removed", effects.delete.length - missing.length);
      for (const { errno } of missing) if (errno !== ERRNO.ENOENT) this.#refused(errno);
    }
    if (effects.create.length > 0) await this.create(effects.create);
    for (const { index, errno } of await this.#table.update(effects.update)) {
      const flow = effects.update[index];
      if (flow !== undefined && errno === ERRNO.ENOENT) await this.create([flow]);
      else this.#refused(errno);
    }
    // What is gone by itself meanwhile needs no time.
    for (const { errno } of await this.#table.prolong(effects.lifetime))
      if (errno !== ERRNO.ENOENT) this.#refused(errno);
  }

  async create(flows: readonly FlowPlan[]): Promise<void> {
    const refused = await this.#table.create(flows);
    this.#add("injected", flows.length - refused.length);
    for (const { index, errno } of refused) {
      const flow = flows[index];
      if (flow === undefined) continue;
      if (errno === ERRNO.EEXIST) await this.#replace(flow);
      else {
        this.#refused(errno);
        this.#store.lost(flow);
      }
    }
  }

  /** More time for peers' flows, which no packet gives them here. */
  async prolong(flows: readonly FlowPlan[]): Promise<void> {
    for (const { index, errno } of await this.#table.prolong(flows)) {
      const flow = flows[index];
      if (flow !== undefined && errno === ERRNO.ENOENT) this.#store.lost(flow);
      else this.#refused(errno);
    }
  }

  /** One with the same addresses is there: the same flow gets the new state, another gives way. */
  async #replace(flow: FlowPlan): Promise<void> {
    const there = await this.#table.get(flow);
    if (there !== undefined && tuplesSame(there.reply, flow.reply)) {
      if (halfOpen(flow)) return; // it may be further here
      for (const { errno } of await this.#table.update([flow])) this.#refused(errno);
      return;
    }
    if (there !== undefined) await this.#table.delete([flow]);
    // The kernel finds an entry by either direction.
    const other = await this.#table.get({ ...flow, original: flow.reply });
    if (other !== undefined) {
      const { delete: gone, tell } = this.#store.clash(flow, other);
      this.#tell({ tell });
      if (gone.length === 0) return this.#refused(ERRNO.EEXIST);
      await this.#table.delete(gone);
    }
    for (const { errno } of await this.#table.create([flow])) {
      this.#refused(errno);
      this.#store.lost(flow);
    }
  }

  #add(counter: string, more: number): void {
    this.#count[counter] = (this.#count[counter] ?? 0) + more;
  }
  #refused(errno: number): void {
    this.#add("refusedByKernel", 1);
    this.#add(`refusedByKernel_${errnoName(errno)}`, 1);
  }
}
