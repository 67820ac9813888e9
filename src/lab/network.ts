/** Bridges, cables and hosts of a lab, as batches for `ip`. */
import { existsSync, readFileSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { ipFamily } from "../base/addresses.ts";
import { attempt, run } from "./shell.ts";
import type { LabHost, LabPlan } from "./topology.ts";

const ipBatch = (lines: readonly string[], host?: string): Promise<string> =>
  run(["ip", ...(host === undefined ? [] : ["-n", host]), "-batch", "-"], `${lines.join("\n")}\n`);

/** Settings of a host, as its kernel would have them after booting a prepared system. */
function sysctls(host: LabHost, six: boolean): string[] {
  const common = [
    // Lab addresses are unique by construction: no second of silence for duplicate detection.
    ["net/ipv6/conf/all/accept_dad", "0"],
    ["net/ipv6/conf/default/accept_dad", "0"],
    ["net/ipv6/conf/all/disable_ipv6", six ? "0" : "1"],
    ["net/ipv6/conf/default/disable_ipv6", six ? "0" : "1"],
  ];
  const router = [
    ["net/ipv4/ip_forward", "1"],
    ["net/ipv6/conf/all/forwarding", "1"],
    ["net/ipv4/conf/all/send_redirects", "0"],
    ["net/ipv4/conf/default/send_redirects", "0"],
  ];
  return [...common, ...(host.kind === "node" ? router : [])].map(
    ([path, value]) => `[ ! -e /proc/sys/${path} ] || echo ${value} > /proc/sys/${path}`,
  );
}

export async function buildNetworks(plan: LabPlan): Promise<void> {
  await ipBatch(
    plan.networks.flatMap(({ bridge }) => [
      // Ports forward at once; the bridge itself needs no address and no spanning tree.
      `link add ${bridge} type bridge stp_state 0 forward_delay 0`,
      `link set ${bridge} up`,
    ]),
  );
  await run([
    "sh",
    "-c",
    "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e $f ] || echo 1 > $f; done",
  ]);
}

/** A host boots: its namespace, its cables, its addresses. */
export async function buildHost(plan: LabPlan, host: LabHost): Promise<void> {
  const bridges = new Map(plan.networks.map(({ name, bridge }) => [name, bridge]));
  const networks = plan.networks.filter(({ name }) => host.interfaces.some((one) => one.network === name));
  const six = networks.some(({ prefixes }) => prefixes.some(({ address }) => ipFamily(address) === 6));
  await run(["ip", "netns", "add", host.name]);
  await run(["ip", "netns", "exec", host.name, "sh", "-ec", sysctls(host, six).join("\n")]);
  await ipBatch(
    host.interfaces.flatMap(({ name, network, port }) => [
      `link add ${port} type veth peer name ${name} netns ${host.name}`,
      `link set ${port} master ${bridges.get(network)} up`,
    ]),
  );
  await ipBatch(
    [
      "link set lo up",
      ...host.interfaces.flatMap(({ name, addresses }) => [
        ...addresses.map(
          ({ address, length }) =>
            `address add ${address}/${length} dev ${name}${ipFamily(address) === 6 ? " nodad" : ""}`,
        ),
        `link set ${name} up`,
      ]),
      ...host.gateways.map((via) => `route add default via ${via}`),
    ],
    host.name,
  );
}

/** A host disappears: its cables first, so that nothing that its processes still say is heard. */
export async function cutCables(host: LabHost): Promise<void> {
  await ipBatch(host.interfaces.map(({ port }) => `link set ${port} down`));
}

export async function removeHost(host: LabHost): Promise<void> {
  // Two steps: deleting the bridge's end deletes the cable at once, a namespace lingers a moment.
  await attempt(["ip", "-force", "-batch", "-"], {
    input: host.interfaces.map(({ port }) => `link delete ${port}\n`).join(""),
  });
  await attempt(["ip", "netns", "delete", host.name]);
}

/** The processes whose network namespace is the host's. */
export function processesOf(host: string, except: ReadonlySet<number> = new Set()): number[] {
  const path = `/run/netns/${host}`;
  if (!existsSync(path)) return [];
  const wanted = `net:[${statSync(path).ino}]`;
  return readdirSync("/proc").flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || except.has(pid)) return [];
    try {
      if (readlinkSync(`/proc/${entry}/ns/net`) !== wanted) return [];
      const state = /^State:\s+(\w)/m.exec(readFileSync(`/proc/${entry}/status`, "utf8"))?.[1];
      return state === "Z" || state === "X" ? [] : [pid];
    } catch {
      return [];
    }
  });
}
