import { z } from "zod";
import { messageOf } from "../base/errors.ts";
import type { AdminState } from "../contracts/forwarding.ts";
import { StateFile } from "./state-file.ts";

const fileSchema = z.strictObject({
  version: z.literal(1),
  backends: z.record(z.string(), z.enum(["drain", "maintenance"])),
});

const keyOf = (pool: string, backend: string): string => `${pool}/${backend}`;

/**
 * What operators asked of backends. What is to be kept is on disk before the command is answered; the rest is
 * forgotten with the process. A backend that the site no longer has keeps its state, in case it comes back.
 */
export class AdminStates {
  readonly #file: StateFile;
  readonly #kept = new Map<string, AdminState>();
  /** What was asked without keeping it; it covers what is kept. */
  readonly #passing = new Map<string, AdminState>();
  #turn: Promise<void> = Promise.resolve();
  /** Why what was kept before could not be read; empty where it could. */
  readonly problem: string;

  private constructor(file: StateFile, kept: Readonly<Record<string, AdminState>>, problem: string) {
    this.#file = file;
    this.problem = problem;
    for (const [key, state] of Object.entries(kept)) this.#kept.set(key, state);
  }

  /** A file that cannot be understood is kept aside and `problem` says so: a node starts all the same. */
  static async open(path: string): Promise<AdminStates> {
    const file = new StateFile(path);
    try {
      const value = await file.read();
      if (value === undefined) return new AdminStates(file, {}, "");
      const parsed = fileSchema.safeParse(value);
      if (parsed.success) return new AdminStates(file, parsed.data.backends, "");
      throw new Error(`${path} does not have the agreed shape`);
    } catch (error) {
      const aside = await file.keepAside().catch(() => undefined);
      const where = aside === undefined ? "" : `; it is kept as ${aside}`;
      return new AdminStates(
        file,
        {},
        `drained and maintained backends are forgotten: ${messageOf(error)}${where}`,
      );
    }
  }

  get(pool: string, backend: string): AdminState {
    const key = keyOf(pool, backend);
    return this.#passing.get(key) ?? this.#kept.get(key) ?? "enabled";
  }

  /** Settles when what is to be kept is on disk; takes effect only then. One after the other. */
  set(pool: string, backend: string, state: AdminState, keep: boolean): Promise<void> {
    const done = this.#turn.then(() => this.#set(keyOf(pool, backend), state, keep));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #set(key: string, state: AdminState, keep: boolean): Promise<void> {
    if (!keep) {
      this.#passing.set(key, state);
      return;
    }
    const next = new Map(this.#kept);
    if (state === "enabled") next.delete(key);
    else next.set(key, state);
    await this.#file.write({ version: 1, backends: Object.fromEntries(next) });
    if (state === "enabled") this.#kept.delete(key);
    else this.#kept.set(key, state);
    this.#passing.delete(key);
  }
}
