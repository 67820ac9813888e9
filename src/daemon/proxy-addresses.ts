import { networkInterfaces } from "node:os";
import { type IpAddress, ip } from "../base/addresses.ts";
import { type Clock, type Timer, addTime, ms } from "../base/time.ts";
import { KernelEvents } from "../linux/rtnetlink.ts";

/**
 * An address that somebody deleted by hand is put back within milliseconds, and its connections never notice.
 * Only one that is still gone after this has moved.
 */
const SETTLE = ms(20);

/**
 * Tells of virtual addresses that leave this host, from the kernel itself: whoever took them, redundancy, an
 * expired lease or a person, and whether or not the brain runs.
 */
export class AddressWatch {
  readonly #clock: Clock;
  readonly #lost: (address: IpAddress) => void;
  readonly #events: KernelEvents;
  #virtual: ReadonlySet<IpAddress> = new Set();
  #present: ReadonlySet<IpAddress> = new Set();
  #timer: Timer | undefined;

  constructor(clock: Clock, lost: (address: IpAddress) => void) {
    this.#clock = clock;
    this.#lost = lost;
    this.#events = KernelEvents.open({
      clock,
      of: ["address"],
      onEvent: (event) => {
        if (event.what === "address" && this.#virtual.has(event.address.address)) this.#soon();
      },
      onOverrun: () => this.#soon(),
    });
  }

  /** The addresses that may move. */
  watch(virtual: Iterable<IpAddress>): void {
    this.#virtual = new Set(virtual);
    this.#present = this.#here();
  }
  close(): void {
    this.#timer?.cancel();
    this.#events.close();
  }

  #here(): ReadonlySet<IpAddress> {
    const found = new Set<IpAddress>();
    for (const addresses of Object.values(networkInterfaces()))
      for (const { address } of addresses ?? []) {
        const [plain = ""] = address.split("%");
        const parsed = ip(plain);
        if (this.#virtual.has(parsed)) found.add(parsed);
      }
    return found;
  }

  #soon(): void {
    this.#timer ??= this.#clock.setTimer(addTime(this.#clock.monotonic(), SETTLE), () => {
      this.#timer = undefined;
      const before = this.#present;
      this.#present = this.#here();
      for (const address of before) if (!this.#present.has(address)) this.#lost(address);
    });
  }
}
