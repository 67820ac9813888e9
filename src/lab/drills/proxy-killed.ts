import { killProxies } from "../faults/processes.ts";
import type { Drill } from "./drill.ts";

export const proxyKilled: Drill = {
  name: "proxy-killed",
  story:
    "Every proxy process of a node is killed, of the Active where it has some: what they carried ends, and the other node serves.",
  skip: (lab) => {
    if (lab.plan.proxies.length === 0) return "the site has no proxy service";
    const { name } = lab.subject;
    return name === "nines" || name === "haproxy" ? undefined : `${name} has no proxy`;
  },
  fault: ({ active }, { plan: { proxies } }) =>
    killProxies(proxies.includes(active) ? active : (proxies[0] ?? active)),
  hold: () => 3000,
  budget: ({ activeDown }) => ({ gap: activeDown + 100 }),
};
