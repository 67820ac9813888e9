import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { OperationalError, messageOf } from "../base/errors.ts";

/**
 * A kernel setting below /proc/sys, named as a path (`net/ipv4/ip_forward`): in sysctl's dotted form an
 * interface such as `eth0.100` is ambiguous.
 */
const file = (name: string): string => {
  if (name.split("/").some((part) => part === "" || part === "." || part === ".."))
    throw new RangeError(`not the name of a kernel setting: ${name}`);
  return `/proc/sys/${name}`;
};

/** Its text without the newline, or undefined where this kernel has none such. */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(file(name), "utf8").trim();
  } catch (error) {
    if (error instanceof RangeError) throw error;
    return undefined;
  }
}

/** Writes it and answers what it was; writes nothing where it already is so. */
export function writeSysctl(name: string, value: string): string | undefined {
  const before = readSysctl(name);
  if (before === value) return before;
  try {
    writeFileSync(file(name), value);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const kind =
      code === "ENOENT" ? "KERNEL_UNSUPPORTED" : code === "EINVAL" ? "KERNEL_REFUSED" : "PERMISSION";
    throw new OperationalError(kind, `cannot set ${name} to ${value}: ${messageOf(error)}`, { cause: error });
  }
  return before;
}

/** The names below a directory of settings, e.g. the interfaces below `net/ipv6/conf`. */
export function listSysctls(directory: string): string[] {
  try {
    return readdirSync(file(directory));
  } catch (error) {
    if (error instanceof RangeError) throw error;
    return [];
  }
}
