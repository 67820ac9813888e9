/** Puts what a peer said into our kernel, and only then says so. */
import { messageOf } from "../../base/errors.ts";
import type { MonotonicMs } from "../../base/time.ts";
import type { KernelFlows } from "./kernel.ts";
import type { Delivery, PeerMachine } from "./machine-peer.ts";
import type { FlowStore } from "./machine-store.ts";
import type { StoreEffects } from "./store-effects.ts";

export interface DeliveryMeans {
  readonly now: () => MonotonicMs;
  readonly store: Pick<FlowStore, "remote">;
  readonly kernel: Pick<KernelFlows, "apply">;
  /** To all peers. */
  readonly tell: (effects: StoreEffects) => void;
  /** Ends the connection with this peer: what was not acknowledged comes again with the next one. */
  readonly end: (reason: string) => void;
}

/**
 * Where the kernel fails as a whole, this batch must come again: an acknowledgement says all before it, so that none
 * may follow on this connection.
 */
export async function deliver(
  node: string,
  machine: Pick<PeerMachine, "applied">,
  delivery: Delivery,
  { now, store, kernel, tell, end }: DeliveryMeans,
): Promise<void> {
  const effects = store.remote(node, delivery, now());
  try {
    await kernel.apply(effects);
  } catch (error) {
    end(`the kernel failed: ${messageOf(error)}`);
    throw error;
  } finally {
    tell(effects);
  }
  machine.applied(delivery, now());
}
