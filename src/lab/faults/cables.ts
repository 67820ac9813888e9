import { setTimeout as sleep } from "node:timers/promises";
import { VRRP } from "../cables.ts";
import type { Lab } from "../lab.ts";
import { run } from "../shell.ts";
import type { Fault } from "./fault.ts";

const ports = (lab: Lab, node: string, network?: string): string[] =>
  lab
    .host(node)
    .interfaces.filter((one) => network === undefined || one.network === network)
    .map(({ port }) => port);

const setLinks = async (names: readonly string[], state: "up" | "down"): Promise<void> => {
  await run(["ip", "-batch", "-"], names.map((name) => `link set ${name} ${state}\n`).join(""));
};

/** A cable is pulled: the node sees its carrier go. */
export const linkDown = (node: string, network: string): Fault => ({
  what: `link of ${node} to ${network} down`,
  inject: (lab) => setLinks(ports(lab, node, network), "down"),
  heal: (lab) => setLinks(ports(lab, node, network), "up"),
});

/** A loose contact: down and up several times, `period` ms each. */
export const linkFlap = (node: string, network: string, times = 4, period = 60): Fault => ({
  what: `link of ${node} to ${network} flaps ${times} times`,
  inject: async (lab) => {
    for (let i = 0; i < times; i++) {
      await setLinks(ports(lab, node, network), "down");
      await sleep(period);
      await setLinks(ports(lab, node, network), "up");
      await sleep(period);
    }
  },
  heal: (lab) => setLinks(ports(lab, node, network), "up"),
});

/** Advertisements of one node are lost on their way to all others; those of the others arrive. */
export const advertsLost = (node: string): Fault => ({
  what: `advertisements of ${node} dropped`,
  inject: (lab) =>
    lab.cables.set(
      `adverts ${node}`,
      ports(lab, node).flatMap((port) => VRRP.map((match) => `iifname "${port}" ${match} drop`)),
    ),
  heal: (lab) => lab.cables.clear(`adverts ${node}`),
});

/** Nothing passes between two nodes in either direction; clients and backends reach both. */
export const partition = (one: string, other: string): Fault => ({
  what: `no frame passes between ${one} and ${other}`,
  inject: (lab) =>
    lab.cables.set(
      `partition ${one} ${other}`,
      ports(lab, one).flatMap((a) =>
        ports(lab, other).flatMap((b) => [
          `iifname "${a}" oifname "${b}" drop`,
          `iifname "${b}" oifname "${a}" drop`,
        ]),
      ),
    ),
  heal: (lab) => lab.cables.clear(`partition ${one} ${other}`),
});
