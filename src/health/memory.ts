import { z } from "zod";
import type { Log } from "../base/log.ts";
import { messageOf } from "../base/errors.ts";
import { type Clock, type Timer, addTime, seconds } from "../base/time.ts";
import type { HealthState } from "../contracts/forwarding.ts";
import { StateFile } from "./state-file.ts";

/** What was known of a backend at this address before the restart. */
export type Remembered = (pool: string, backend: string, at: string) => HealthState | undefined;

const memorySchema = z.record(z.string(), z.enum(["up", "down"]));
/** Changes are gathered: flapping backends must not keep the disk busy. */
const WRITE_AFTER = seconds(1);

/**
 * A restarted brain goes on with what its predecessor knew: without it, a backend that is down would count as
 * unknown and get connections again until its checks have failed anew. The file belongs in the runtime
 * directory: after a reboot nothing in it is true.
 */
export class HealthMemory {
  readonly #file: StateFile;
  readonly #clock: Clock;
  readonly #log: Log;
  #timer: Timer | undefined;
  #written = "";
  readonly recall: Remembered;

  private constructor(file: StateFile, clock: Clock, log: Log, known: Readonly<Record<string, HealthState>>) {
    this.#file = file;
    this.#clock = clock;
    this.#log = log;
    this.recall = (pool, backend, at) => known[`${pool}/${backend} ${at}`];
  }

  static async open(path: string, clock: Clock, log: Log): Promise<HealthMemory> {
    const file = new StateFile(path);
    try {
      const parsed = memorySchema.safeParse((await file.read()) ?? {});
      return new HealthMemory(file, clock, log, parsed.success ? parsed.data : {});
    } catch (error) {
      log.warn({ event: "health.memory_unreadable", reason: messageOf(error) });
      return new HealthMemory(file, clock, log, {});
    }
  }

  /** Call it whenever something may have changed. */
  keep(current: () => Readonly<Record<string, HealthState>>): void {
    this.#timer ??= this.#clock.setTimer(addTime(this.#clock.monotonic(), WRITE_AFTER), () => {
      this.#timer = undefined;
      const value = current();
      const text = JSON.stringify(value);
      if (text === this.#written) return;
      this.#written = text;
      this.#file
        .write(value)
        .catch((error: unknown) =>
          this.#log.warn({ event: "health.memory_not_kept", reason: messageOf(error) }),
        );
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }
}
