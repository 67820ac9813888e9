import { setTimeout as sleep } from "node:timers/promises";
import { ipFamily } from "../../base/addresses.ts";
import type { Fault } from "../faults/fault.ts";
import { forgetNeighbour } from "../faults/kernel.ts";
import { hang } from "../faults/processes.ts";
import type { Lab } from "../lab.ts";
import type { StreamSpec } from "../probe/stream.ts";
import type { Drill } from "./drill.ts";

/** Between two clients' questions; with eight clients they cover the first 0.8 s of the hang. */
const STEP = 100;

const usualTarget = (usual: readonly StreamSpec[]): StreamSpec | undefined =>
  usual.find(({ kind, address }) => kind === "connect" && !address.includes(":"));

/** The node hangs, and one client after the other forgets and asks again who has the address. */
function hangWhileAsking(node: string, lab: Lab): Fault {
  const hung = hang(node);
  const addresses = lab.plan.targets.map(({ address }) => address).filter((one) => ipFamily(one) === 4);
  return {
    ...hung,
    what: `${hung.what} while clients resolve`,
    inject: async (same) => {
      await hung.inject(same);
      for (const { name } of lab.plan.crowd.interfaces) {
        for (const address of new Set(addresses)) await forgetNeighbour("crowd", name, address);
        await sleep(STEP);
      }
    },
  };
}

export const hungResolver: Drill = {
  name: "hung-resolver",
  story:
    "The Active hangs; its kernel could still answer ARP, and clients ask for the address at any moment.",
  skip: (lab) =>
    lab.plan.targets.some(({ address, protocol }) => ipFamily(address) === 4 && protocol === "tcp")
      ? undefined
      : "no service listens on IPv4 over TCP",
  prepare: (lab) => lab.gather(),
  fault: ({ active }, lab) => hangWhileAsking(active, lab),
  hold: ({ lease }) => lease + 1000,
  budget: () => ({ gap: 1000 }),
  streams: (usual, lab) => {
    const target = usualTarget(usual);
    return lab.plan.crowd.interfaces.flatMap(({ name, addresses }): StreamSpec[] => {
      const source = addresses.find(({ address }) => ipFamily(address) === 4)?.address;
      if (target === undefined || source === undefined) return [];
      return [
        { ...target, stream: `resolver ${name}`, kind: "resolver", interval: 20, host: "crowd", source },
      ];
    });
  },
};
