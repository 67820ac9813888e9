import { OperationalError, messageOf } from "../../base/errors.ts";
import { type Clock, type Timer, addTime, ms } from "../../base/time.ts";
import type { NftChange } from "./diff.ts";
import type { NftFamily } from "./model.ts";
import { NftablesService } from "./service.ts";

const FAMILIES = ["ip", "ip6"] as const;
/** How often it is looked whether there is something to keep. */
const LOOK = ms(2000);

/**
 * Keeps the kernel translating established connections while the tables that made them are gone.
 *
 * The forwarder's tables belong to the brain's socket. Between two brains nobody owns them, and whoever flushes the
 * ruleset then (Debian's nftables.conf begins with it) deletes them too: with the last nat chain, translation would
 * be unhooked, and the next packet that nobody translates resets its connection. A small table of another process's
 * socket passes every flush by. Its nat chains keep translation hooked, and its rule, which does nothing but look at
 * a connection, keeps connections tracked: they live on, and the next brain brings the tables back for new ones.
 */
export class ConnectionPin {
  readonly #clock: Clock;
  readonly #service: NftablesService;
  readonly #table: string;
  readonly #name: string;
  readonly #problem: (reason: string) => void;
  #timer: Timer | undefined;
  #closed = false;
  #told = false;

  private constructor(clock: Clock, table: string, name: string, problem: (reason: string) => void) {
    this.#clock = clock;
    this.#table = table;
    this.#name = name;
    this.#problem = problem;
    this.#service = NftablesService.open(clock);
  }

  /**
   * Pins from when a table of this name is there (a host that forwards nothing shall not track connections), until
   * it is closed or its process ends. `problem` is told once where it cannot. Throws where there is no access.
   */
  static open(
    clock: Clock,
    table: string,
    problem: (reason: string) => void,
    name = "nines-pin",
  ): ConnectionPin {
    const pin = new ConnectionPin(clock, table, name, problem);
    pin.#look();
    return pin;
  }

  /** The tables are not persistent: the kernel removes them with the socket. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#service.close();
  }

  #look(): void {
    void this.#pin().then(
      (done) => {
        if (!done) this.#again();
      },
      (error: unknown) => {
        if (this.#closed) return;
        if (!(error instanceof OperationalError)) throw error;
        if (!this.#told) this.#problem(messageOf(error));
        this.#told = true;
        // The process before us may still hold the table.
        this.#again();
      },
    );
  }

  #again(): void {
    if (this.#closed) return;
    this.#timer = this.#clock.setTimer(addTime(this.#clock.monotonic(), LOOK), () => this.#look());
  }

  async #pin(): Promise<boolean> {
    const there = await Promise.all(
      FAMILIES.map((family) => this.#service.tableInfo({ family, table: this.#table })),
    );
    if (this.#closed || there.every((one) => one === undefined)) return false;
    await this.#service.apply(FAMILIES.flatMap((family) => pinned(family, this.#name)));
    return true;
  }
}

function pinned(family: NftFamily, name: string): NftChange[] {
  const place = { family, table: name };
  const hooks = [
    ["prerouting", -100],
    ["postrouting", 99],
    ["output", -100],
    ["input", 99],
  ] as const;
  return [
    { place, op: "add-table", owner: true, persist: false },
    ...hooks.map(([hook, priority]): NftChange => ({
      place,
      op: "add-chain",
      chain: { name: hook, hook: { type: "nat", hook, priority, policy: "accept" }, rules: [] },
    })),
    {
      place,
      op: "add-rule",
      chain: "prerouting",
      rule: {
        comment: "keeps connections tracked",
        expressions: [
          { kind: "ct", key: "mark", register: 0 },
          { kind: "verdict", verdict: { code: "return" } },
        ],
      },
    },
  ];
}
