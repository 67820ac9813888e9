import { basename, relative } from "node:path";
import { formatIpPort } from "../base/addresses.ts";
import type { Site } from "../contracts/site.ts";
import { Lab } from "./lab.ts";
import { settleIn, tellUp } from "./outer.ts";
import { makeSubject } from "./subjects/index.ts";
import type { Subject } from "./subjects/subject.ts";

/** How this program is called here: a checkout has no `nines` on the path. */
function self(): string {
  const script = process.argv[1] ?? "nines";
  return basename(script) === "nines" ? "nines" : `node ${relative(process.cwd(), script)}`;
}

/** How to look around, in lines for the terminal. */
export function lookAround(lab: Lab): string[] {
  const [node = "lb1"] = lab.nodes;
  const [target] = lab.plan.targets;
  const lines: [string, string][] = [
    [`exec ${node} -- ip address`, "who has the virtual addresses"],
    ...(lab.subject.name === "nines"
      ? [[`exec ${node} -- nines status`, "what the node says of itself"] as [string, string]]
      : []),
    [`exec ${node} -- nft list ruleset`, "what its kernel forwards"],
    ...(target === undefined
      ? []
      : [
          [`exec ${lab.client} -- curl -s http://${formatIpPort(target)}/`, "which backend answers"] as [
            string,
            string,
          ],
        ]),
    [`exec wires -- ip link set ${lab.host(node).interfaces[0]?.port ?? ""} down`, "pull a cable"],
    ["down", "end everything (or Ctrl-C here)"],
  ];
  const width = Math.max(...lines.map(([command]) => command.length));
  return [
    `The lab "${lab.site.site}" is up: ${lab.plan.hosts.map((host) => host.name).join(", ")}. From another terminal:`,
    ...lines.map(([command, what]) => `  ${self()} lab ${command.padEnd(width)}   ${what}`),
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
