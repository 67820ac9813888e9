import { messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Clock, type Timer, addTime, seconds } from "../base/time.ts";
import type { ListenWish } from "./messages-parent.ts";

/** A refused address may be one that the host gets later: an interface that comes up, IPv6 that is still tentative. */
const RETRY = seconds(2);

/** One open socket, known by this object: a name may come back, and the kernel gives descriptors' numbers again. */
export interface OpenListener {
  readonly name: string;
  readonly fd: number;
}

export interface SlotListenersOptions {
  readonly child: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Throws. */
  listen(wish: ListenWish): number;
  closeListener(fd: number): void;
  /** One that was refused before is open now. */
  opened(): void;
}

/** The sockets of one child, opened by the parent and kept open by it: a restart finds its queue unbroken. */
export class SlotListeners {
  readonly #options: SlotListenersOptions;
  #wishes: readonly ListenWish[] = [];
  #open: readonly OpenListener[] = [];
  #closed = false;
  #timer: Timer | undefined;
  /** Why, by name: told once, not with every try. */
  readonly #refused = new Map<string, string>();

  constructor(options: SlotListenersOptions) {
    this.#options = options;
  }

  get open(): readonly OpenListener[] {
    return this.#open;
  }

  /** Those that stay are kept with the connections that wait in them. Answers whether there are others now. */
  want(wishes: readonly ListenWish[]): boolean {
    this.#wishes = wishes;
    for (const name of this.#refused.keys())
      if (!wishes.some((wish) => wish.name === name)) this.#refused.delete(name);
    const kept = this.#open.filter(({ name }) => wishes.some((wish) => wish.name === name));
    const gone = this.#open.filter((one) => !kept.includes(one));
    this.#open = kept;
    const added = this.#openMissing();
    for (const { fd } of gone) this.#options.closeListener(fd);
    return added || gone.length > 0;
  }

  /** Nobody will accept for a while: connections shall go to another process's sockets, or be refused at once. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { fd } of this.#open) this.#options.closeListener(fd);
    this.#open = [];
  }

  /** After `close`; otherwise nothing happens. */
  reopen(): void {
    if (!this.#closed) return;
    this.#closed = false;
    this.#openMissing();
  }

  #openMissing(): boolean {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#closed) return false;
    const { child, clock, log } = this.#options;
    const before = this.#open.length;
    for (const wish of this.#wishes) {
      const { name } = wish;
      if (this.#open.some((one) => one.name === name)) continue;
      try {
        this.#open = [...this.#open, { name, fd: this.#options.listen(wish) }];
        if (this.#refused.delete(name))
          log.info({ event: "listener.opened", child, listener: name, reason: "it was refused before" });
      } catch (error) {
        const reason = messageOf(error);
        if (this.#refused.get(name) !== reason)
          log.error({ event: "listener.refused", child, listener: name, reason });
        this.#refused.set(name, reason);
      }
    }
    if (this.#open.length < this.#wishes.length)
      this.#timer = clock.setTimer(addTime(clock.monotonic(), RETRY), () => {
        if (this.#openMissing()) this.#options.opened();
      });
    return this.#open.length > before;
  }
}
