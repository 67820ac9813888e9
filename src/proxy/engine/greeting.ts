import type { Channel, ChannelHandler } from "./channel.ts";
import type { Closable, EngineCore, ListenerCore } from "./ports.ts";
import type { Swept } from "./sweep.ts";

/** What the first bytes of a connection say: more are needed, or what to do with it. */
export type Verdict = "more" | "refuse" | (() => void);

/**
 * Reads the first bytes of a connection until they tell what it is: a PROXY header, HTTP/2, a TLS hello. Bounded in
 * bytes and time; then someone else takes the channel over.
 */
export class Greeting implements ChannelHandler, Swept, Closable {
  readonly #engine: EngineCore;
  readonly #listener: ListenerCore;
  readonly #channel: Channel;
  readonly #most: number;
  readonly #look: (bytes: Buffer) => Verdict;
  #bytes: Buffer | undefined;
  #over = false;
  deadline: number;
  sweepIndex = -1;

  constructor(
    engine: EngineCore,
    listener: ListenerCore,
    channel: Channel,
    most: number,
    look: (bytes: Buffer) => Verdict,
  ) {
    this.#engine = engine;
    this.#listener = listener;
    this.#channel = channel;
    this.#most = most;
    this.#look = look;
    this.deadline = engine.now + listener.service.settings.timeouts.handshake;
    engine.sweep.add(this);
    listener.clients.add(this);
  }

  onBytes(bytes: Buffer, length: number): void {
    if (this.#over) return;
    this.#engine.tick();
    const piece = bytes.subarray(0, length);
    const all = this.#bytes === undefined ? Buffer.from(piece) : Buffer.concat([this.#bytes, piece]);
    this.#bytes = all;
    const verdict = this.#look(all);
    if (verdict === "more" && all.length < this.#most) return;
    this.#leave();
    if (typeof verdict === "function") verdict();
    else {
      if (verdict === "more") this.#engine.event("refused.greeting-too-large");
      this.#channel.destroy();
    }
  }

  #leave(): void {
    if (this.#over) return;
    this.#over = true;
    this.#engine.sweep.remove(this);
    this.#listener.closed(this);
  }

  onConnect(): void {
    // Clients come connected.
  }
  onDrain(): void {
    // Nothing is written here.
  }
  onEnd(): void {
    this.destroy();
  }
  onClose(): void {
    this.#leave();
  }
  onDeadline(): void {
    this.#engine.event("refused.greeting-timeout");
    this.destroy();
  }
  drain(): void {
    this.destroy();
  }
  destroy(): void {
    this.#leave();
    this.#channel.destroy();
  }
}
