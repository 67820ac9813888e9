import { ipFamily } from "../../base/addresses.ts";
import { OperationalError } from "../../base/errors.ts";
import { attempt, run } from "../shell.ts";
import type { Fault } from "./fault.ts";

const inNode = (node: string, argv: readonly string[], input?: string): Promise<string> =>
  run(["ip", "netns", "exec", node, ...argv], input);

/** Somebody, or NetworkManager, deletes the virtual addresses from the Active. */
export const addressesDeleted = (node: string): Fault => ({
  what: `virtual addresses deleted on ${node}`,
  inject: async (lab) => {
    const wanted = new Set<string>(lab.plan.virtual.map(({ address }) => address));
    const shown = await run(["ip", "-n", node, "-o", "address"]);
    const lines = shown.split("\n").flatMap((line) => {
      const [, device, address, length] = /^\d+: +(\S+) +inet6? ([0-9a-f.:]+)\/(\d+)/.exec(line) ?? [];
      return address !== undefined && wanted.has(address)
        ? [`address delete ${address}/${length} dev ${device}\n`]
        : [];
    });
    // keepalived gives up the second address as soon as it misses the first: no line may depend on another.
    const { stderr } = await attempt(["ip", "-n", node, "-force", "-batch", "-"], { input: lines.join("") });
    if (lines.length === 0 || stderr.split("Address not found").length > lines.length)
      throw new OperationalError("NOT_FOUND", `${node} held no virtual address to delete: ${stderr}`);
  },
  heal: async () => {},
});

/** `nft flush ruleset`, with which Debian's own nftables.conf begins. */
export const rulesetFlushed = (node: string): Fault => ({
  what: `nft flush ruleset on ${node}`,
  inject: async () => void (await inNode(node, ["nft", "flush", "ruleset"])),
  heal: async () => {},
});

const dropTable = (node: string): Promise<unknown> =>
  attempt(["ip", "netns", "exec", node, "nft", "delete", "table", "inet", "foreign"]);

/** Somebody else's rules mark every packet, as VPNs and policy routing do. */
export const foreignMark = (node: string): Fault => ({
  what: `foreign rule on ${node} marks packets`,
  inject: async () => {
    const rules = `table inet foreign {
  chain marks {
    type filter hook prerouting priority -160
    meta mark set 0x1
    ct mark set 0x1
  }
}
`;
    await inNode(node, ["nft", "-f", "-"], rules);
  },
  heal: async () => void (await dropTable(node)),
});

/** A firewall whose forward chain drops by default, as Docker and ufw leave behind. */
export const forwardDropped = (node: string): Fault => ({
  what: `forward policy of drop on ${node}`,
  inject: async () => {
    const rules =
      "table inet foreign {\n  chain forward {\n    type filter hook forward priority 0\n    policy drop\n  }\n}\n";
    await inNode(node, ["nft", "-f", "-"], rules);
  },
  heal: async () => void (await dropTable(node)),
});

/** Forgets who answers for the virtual addresses, so that the client asks again. */
export async function forgetNeighbour(host: string, device: string, address: string): Promise<void> {
  const six = ipFamily(address as never) === 6 ? ["-6"] : [];
  await attempt(["ip", ...six, "-n", host, "neighbour", "flush", "to", address, "dev", device]);
}
