import type { Clock } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { probeDns } from "./dns.ts";
import { probeExec } from "./exec.ts";
import { probeHttp } from "./http.ts";
import type { Target } from "./probe.ts";
import { probeTcp } from "./tcp.ts";
import { probeUdp } from "./udp.ts";

/** Runs one check of whatever kind. Never rejects; `signal` gives it up. */
export function runProbe(
  check: Check,
  target: Target,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  switch (check.kind) {
    case "tcp":
      return probeTcp(target, check, clock, signal);
    case "http":
      return probeHttp(target, check, clock, signal);
    case "udp":
      return probeUdp(target, check, clock, signal);
    case "dns":
      return probeDns(target, check, clock, signal);
    case "exec":
      return probeExec(target, check, clock, signal);
  }
}
