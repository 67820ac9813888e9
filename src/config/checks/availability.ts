import { suggest } from "../explain/near.ts";
import type { Site } from "../schema/site.ts";
import type { Path } from "../source/positions.ts";
import type { Check } from "./context.ts";

const machinesOf = (site: Site): string[] => [
  ...Object.keys(site.nodes),
  ...Object.values(site.pools).flatMap(({ backends }) => Object.keys(backends)),
];

export const availabilityNames: Check = ({ site, error }) => {
  const { availability } = site;
  const machines = new Set(machinesOf(site));
  const known = (names: ReadonlySet<string>, kind: string, name: string, path: Path): void => {
    if (!names.has(name))
      error(["availability", ...path], `there is no ${kind} "${name}"`, suggest(name, names, `${kind}s`));
  };
  for (const name of Object.keys(availability.machines))
    known(machines, "node or backend", name, ["machines", name]);
  for (const kind of ["power", "network"] as const)
    for (const [name, { members }] of Object.entries(availability[kind]))
      for (const [index, member] of members.entries())
        known(machines, "node or backend", member, [kind, name, "members", index]);
};

export const dependencies: Check = ({ site, error }) => {
  for (const [name, one] of Object.entries(site.availability.dependencies)) {
    const path = ["availability", "dependencies", name];
    const rated = one.mtbf !== undefined && one.mttr !== undefined;
    const given = [rated, one.availability !== undefined, one.sla !== undefined].filter(Boolean).length;
    if (given !== 1) error(path, "expected mtbf with mttr, or availability, or sla: exactly one of them");
    if (one.needed > one.copies)
      error([...path, "needed"], `${one.needed} of ${one.copies} copies cannot be`);
  }
};
