/** Watches what this process watches itself: interfaces, gateways, local processes. Pools and scripts are the brain's. */
import { readFile, readdir } from "node:fs/promises";
import type { IpAddress } from "../base/addresses.ts";
import { type Clock, type DurationMs, type Timer, addTime, seconds } from "../base/time.ts";
import type { TrackPlan } from "../contracts/redundancy.ts";
import { AddressProbe } from "../linux/address-probe.ts";
import type { Rtnetlink } from "../linux/rtnetlink.ts";
import type { LinkWatch } from "./links.ts";

export interface TrackerOptions {
  readonly clock: Clock;
  readonly rtnetlink: Rtnetlink;
  readonly links: LinkWatch;
  readonly onTrack: (name: string, good: boolean, reason: string) => void;
  /** Whether a gateway answers; by ARP and neighbour solicitation unless a test says otherwise. */
  readonly ask?: (target: IpAddress, timeout: DurationMs) => Promise<boolean>;
}

const PROCESS_EVERY = seconds(1);

/** One tracked thing at a time; a plan's worth of them per router. */
export class Tracker {
  readonly #options: TrackerOptions;
  readonly #tracks: readonly TrackPlan[];
  #stopped = false;
  readonly #timers = new Set<Timer>();
  readonly #probes = new Map<number, AddressProbe>();
  /** What was told last of each interface: the kernel tells of links more often than they change. */
  readonly #told = new Map<string, string>();

  constructor(tracks: readonly TrackPlan[], options: TrackerOptions) {
    this.#tracks = tracks;
    this.#options = options;
  }
  start(): void {
    for (const track of this.#tracks) {
      if (track.kind === "gateway") void this.#gateway(track);
      if (track.kind === "process") void this.#process(track);
    }
    this.linksChanged();
  }
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) timer.cancel();
    for (const probe of this.#probes.values()) probe.close();
    this.#probes.clear();
  }
  linksChanged(): void {
    for (const track of this.#tracks) {
      if (track.kind !== "interface") continue;
      const link = this.#options.links.link(track.interface);
      const reason = !link
        ? "it does not exist"
        : !link.up
          ? "it is down"
          : link.running
            ? "up"
            : "no carrier";
      if (this.#told.get(track.name) === reason) continue;
      this.#told.set(track.name, reason);
      this.#options.onTrack(track.name, reason === "up", reason);
    }
  }

  #wait(span: DurationMs): Promise<void> {
    const { clock } = this.#options;
    return new Promise((resolve) => {
      const timer = clock.setTimer(addTime(clock.monotonic(), span), () => {
        this.#timers.delete(timer);
        resolve();
      });
      this.#timers.add(timer);
    });
  }

  async #gateway(track: Extract<TrackPlan, { kind: "gateway" }>): Promise<void> {
    const ask = this.#options.ask ?? ((target, timeout) => this.#ask(target, timeout));
    let run = 0;
    let good = true;
    while (!this.#stopped) {
      const answers = await Promise.all(track.targets.map((target) => ask(target, track.timeout)));
      if (this.#stopped) return;
      const answered = answers.some(Boolean);
      run = answered === good ? 0 : run + 1;
      if (run >= (good ? track.fall : track.rise)) {
        good = answered;
        run = 0;
        const what = track.targets.join(" ");
        this.#options.onTrack(
          track.name,
          good,
          good ? `${what} answers` : `${what} did not answer ${track.fall} times in a row`,
        );
      }
      await this.#wait(track.interval);
    }
  }
  /** By ARP or neighbour solicitation on the link that the route to it takes. */
  async #ask(target: IpAddress, timeout: DurationMs): Promise<boolean> {
    try {
      const route = await this.#options.rtnetlink.routeTo(target);
      const hop = route?.hops[0];
      const link = hop?.ifindex === undefined ? undefined : this.#options.links.byIndex(hop.ifindex);
      if (!link || this.#stopped) return false;
      let probe = this.#probes.get(link.index);
      if (!probe) {
        probe = AddressProbe.open({ clock: this.#options.clock, ifindex: link.index, mac: link.mac });
        this.#probes.set(link.index, probe);
      }
      const source = route?.preferredSource;
      const answer = await probe.ask(hop?.gateway ?? target, {
        timeout,
        ...(source === undefined ? {} : { source }),
      });
      return answer !== undefined;
    } catch {
      // The link went away under the question: not answered.
      return false;
    }
  }

  async #process(track: Extract<TrackPlan, { kind: "process" }>): Promise<void> {
    let known: string | undefined;
    let good: boolean | undefined;
    while (!this.#stopped) {
      known =
        (known !== undefined && (await isNamed(known, track.process)) ? known : undefined) ??
        (await findProcess(track.process));
      if (this.#stopped) return;
      if ((known !== undefined) !== good) {
        good = known !== undefined;
        this.#options.onTrack(track.name, good, good ? `process ${known}` : "no such process");
      }
      await this.#wait(PROCESS_EVERY);
    }
  }
}

/** The kernel cuts a process's name after 15 bytes. */
async function isNamed(pid: string, name: string): Promise<boolean> {
  try {
    return (await readFile(`/proc/${pid}/comm`, "utf8")).trimEnd() === name.slice(0, 15);
  } catch {
    return false;
  }
}
async function findProcess(name: string): Promise<string | undefined> {
  const pids = (await readdir("/proc").catch(() => [])).filter((entry) => /^\d+$/.test(entry));
  for (const pid of pids) if (await isNamed(pid, name)) return pid;
  return undefined;
}
