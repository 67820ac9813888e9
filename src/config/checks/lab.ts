import { suggest } from "../explain/near.ts";
import type { Path } from "../source/positions.ts";
import type { Check } from "./context.ts";

export const labNames: Check = (context) => {
  const { lab } = context.site;
  if (!lab) return;
  const networks = Object.keys(lab.networks);
  const plugged = (network: string | undefined, path: Path): void => {
    if (network !== undefined && !networks.includes(network))
      context.error(
        path,
        `there is no network "${network}" in the lab`,
        suggest(network, networks, "networks"),
      );
  };
  for (const [node, interfaces] of Object.entries(lab.nodes)) {
    for (const [link, { network }] of Object.entries(interfaces))
      plugged(network, ["lab", "nodes", node, link, "network"]);
  }
  for (const [client, { network }] of Object.entries(lab.clients))
    plugged(network, ["lab", "clients", client, "network"]);
};
