import { check, native } from "./native.ts";

/** Those that a node of a site may need, with their numbers (linux/capability.h) and what for. */
const CAPABILITIES = {
  CAP_KILL: { number: 5, needed: "signals to children of another user" },
  CAP_SETGID: { number: 6, needed: "unprivileged children" },
  CAP_SETUID: { number: 7, needed: "unprivileged children" },
  CAP_SETPCAP: { number: 8, needed: "giving up the others for good" },
  CAP_NET_BIND_SERVICE: { number: 10, needed: "ports below 1024" },
  CAP_NET_ADMIN: { number: 12, needed: "addresses, nftables, the connection table" },
  CAP_NET_RAW: { number: 13, needed: "VRRP, ARP and neighbour discovery" },
  CAP_IPC_LOCK: { number: 14, needed: "memory that is never swapped out" },
  CAP_SYS_NICE: { number: 23, needed: "real-time priority" },
} as const;

export type Capability = keyof typeof CAPABILITIES;

/** What this thread may do now. */
export function effectiveCapabilities(): ReadonlySet<Capability> {
  const words = new Uint32Array(6);
  check(native().capget(words), "capget");
  const [low = 0, , , high = 0] = words;
  const has = (number: number): boolean => (((number < 32 ? low : high) >>> (number % 32)) & 1) === 1;
  return new Set(
    (Object.keys(CAPABILITIES) as Capability[]).filter((name) => has(CAPABILITIES[name].number)),
  );
}

/** Those of `wanted` that are missing, each with what it is needed for: `CAP_NET_RAW (VRRP ...)`. */
export function missingCapabilities(wanted: readonly Capability[]): string[] {
  const have = effectiveCapabilities();
  return wanted.filter((name) => !have.has(name)).map((name) => `${name} (${CAPABILITIES[name].needed})`);
}

/**
 * Gives up all but `keep`, in every thread of this process and for good; from the bounding set too, where
 * CAP_SETPCAP allows, so that no program started later gets them back.
 */
export function dropCapabilities(keep: readonly Capability[]): void {
  let low = 0;
  let high = 0;
  for (const name of keep) {
    const { number } = CAPABILITIES[name];
    if (number < 32) low |= 1 << number;
    else high |= 1 << (number - 32);
  }
  check(native().dropCapabilities(low >>> 0, high >>> 0), "dropping capabilities");
}
