/** Interfaces by name, as the kernel reports them now: is one usable for an instance, and from which address? */
import { type Family, type IpAddress, type MacAddress, ipFamily, isLinkLocal6 } from "../base/addresses.ts";
import { type Clock, type Timer, addTime, ms } from "../base/time.ts";
import { type InterfaceAddress, KernelEvents, type Link, type Rtnetlink } from "../linux/rtnetlink.ts";

/** Changes come in bursts; one look serves them all. */
const GATHER = ms(5);

export interface Usable {
  readonly up: boolean;
  readonly reason: string;
  readonly ifindex?: number | undefined;
  readonly mac?: MacAddress | undefined;
  readonly source?: IpAddress | undefined;
}

export interface LinkWatchOptions {
  readonly clock: Clock;
  readonly rtnetlink: Rtnetlink;
  /** Something changed; `usable` answers anew. */
  readonly onChange: () => void;
  /** An address came or went, told at once. `by` is the netlink port of who did it, 0 where unknown. */
  readonly onAddress: (address: InterfaceAddress, gone: boolean, by: number) => void;
  readonly onError: (error: unknown) => void;
}

export class LinkWatch {
  readonly #options: LinkWatchOptions;
  readonly #events: KernelEvents;
  #links = new Map<string, Link>();
  #addresses: readonly InterfaceAddress[] = [];
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: LinkWatchOptions) {
    this.#options = options;
    this.#events = KernelEvents.open({
      clock: options.clock,
      of: ["link", "address"],
      onEvent: (event) => {
        if (event.what === "address") options.onAddress(event.address, event.gone, event.by);
        // Our own renewals change nothing that is decided here.
        if (event.what === "link" || event.by !== options.rtnetlink.portid) this.#soon();
      },
      onOverrun: () => this.#soon(),
    });
  }
  drain(): void {
    this.#events.drain();
  }
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#events.close();
  }

  link(name: string): Link | undefined {
    return this.#links.get(name);
  }
  byIndex(index: number): Link | undefined {
    return [...this.#links.values()].find((link) => link.index === index);
  }
  get addresses(): readonly InterfaceAddress[] {
    return this.#addresses;
  }

  async refresh(): Promise<void> {
    const { rtnetlink } = this.#options;
    const [links, addresses] = await Promise.all([rtnetlink.links(), rtnetlink.addresses()]);
    if (this.#closed) return;
    this.#links = new Map(links.map((link) => [link.name, link]));
    this.#addresses = addresses;
    this.#options.onChange();
  }
  #soon(): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    this.#timer ??= clock.setTimer(addTime(clock.monotonic(), GATHER), () => {
      this.#timer = undefined;
      this.refresh().catch(this.#options.onError);
    });
  }

  /** `virtual` addresses are never a source: the other node may hold them in a moment. */
  usable(
    name: string,
    family: Family,
    virtual: ReadonlySet<IpAddress>,
    wanted: IpAddress | undefined,
  ): Usable {
    const link = this.#links.get(name);
    if (!link) return { up: false, reason: `there is no interface "${name}"` };
    const base = { ifindex: link.index, mac: link.mac };
    if (!link.up) return { ...base, up: false, reason: `${name} is down` };
    if (!link.running) return { ...base, up: false, reason: `${name} has no carrier` };
    const own = this.#addresses.filter(
      (a) => a.ifindex === link.index && ipFamily(a.address) === family && !virtual.has(a.address),
    );
    const fit = own.filter((a) => !a.tentative && !a.duplicate);
    const source =
      wanted !== undefined
        ? fit.find((a) => a.address === wanted)
        : family === 6
          ? fit.find((a) => isLinkLocal6(a.address))
          : (fit.find((a) => !a.secondary && a.prefixLength < 32) ?? fit[0]);
    if (!source) {
      const what = wanted ?? (family === 6 ? "usable link-local address" : "IPv4 address");
      return { ...base, up: false, reason: `${name} has no ${what} to send from` };
    }
    return { ...base, up: true, reason: `${name} is up`, source: source.address };
  }
}
