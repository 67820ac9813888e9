import type { Site } from "../contracts/site.ts";
import { Lab } from "./lab.ts";
import { settleIn, tellUp } from "./outer.ts";
import { makeSubject } from "./subjects/index.ts";
import type { Subject } from "./subjects/subject.ts";

/** How to look around, in lines for the terminal. */
export function lookAround(lab: Lab): string[] {
  const [node = "lb1"] = lab.nodes;
  const target = lab.plan.targets[0];
  const name = lab.site.site;
  return [
    `The lab "${name}" is up: ${lab.plan.hosts.map((host) => host.name).join(", ")}. From another terminal:`,
    `  nines lab exec ${node} -- ip address                 who has the virtual addresses`,
    ...(target === undefined
      ? []
      : [
          `  nines lab exec ${lab.client} -- curl -s http://${target.address.includes(":") ? `[${target.address}]` : target.address}:${target.port}/   which backend answers`,
        ]),
    `  nines lab exec ${node} -- nft list ruleset            what the kernel forwards`,
    `  nines lab exec wires -- ip link set ${lab.host(node).interfaces[0]?.port ?? ""} down    pull a cable`,
    "  nines lab down                                   end everything (or Ctrl-C here)",
  ];
}

/** Process 1 of `nines lab up`: builds, starts, and then only waits. */
export async function keepUp(site: Site, siteFile: string, subject: Subject["name"]): Promise<never> {
  await settleIn();
  const lab = new Lab(site, siteFile);
  await lab.up();
  await lab.startSubject(makeSubject(subject, lab));
  for (const line of lookAround(lab)) console.log(line);
  tellUp();
  return new Promise(() => setInterval(() => {}, 60_000));
}
