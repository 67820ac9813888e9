import type { Clock } from "../../base/time.ts";
import type { NftTable } from "../../linux/nftables/model.ts";
import { NftablesService } from "../../linux/nftables/service.ts";
import type { Ids } from "../ids.ts";
import { FAMILIES, TABLE } from "../policy.ts";
import { recover } from "../recover.ts";

/** Reads how connections of each service are marked, from the tables in the kernel; only when those changed. */
export class InstalledServices {
  readonly #nftables: NftablesService;
  #generation = -1;
  #ids: Ids = new Map();

  private constructor(nftables: NftablesService) {
    this.#nftables = nftables;
  }
  static open(clock: Clock): InstalledServices {
    return new InstalledServices(NftablesService.open(clock));
  }
  async ids(): Promise<Ids> {
    const generation = await this.#nftables.generation();
    if (generation === this.#generation) return this.#ids;
    const tables: NftTable[] = [];
    for (const { table } of FAMILIES) {
      const read = await this.#nftables.read(table, TABLE, false);
      if (read !== undefined) tables.push(read);
    }
    this.#ids = recover(tables).serviceIds;
    this.#generation = generation;
    return this.#ids;
  }
  close(): void {
    this.#nftables.close();
  }
}
