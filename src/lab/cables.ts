import { run } from "./shell.ts";

/**
 * What the wires do to frames: rules in a table of the bridge family, in the lab's outer namespace, so
 * that no node sees them. Each fault owns the rules under its own key.
 */
export class Cables {
  readonly #rules = new Map<string, readonly string[]>();

  async set(key: string, rules: readonly string[]): Promise<void> {
    this.#rules.set(key, rules);
    await this.#apply();
  }
  async clear(key: string): Promise<void> {
    if (this.#rules.delete(key)) await this.#apply();
  }

  async #apply(): Promise<void> {
    const rules = [...this.#rules.values()].flat();
    const chain = `table bridge lab {\n  chain cables {\n    type filter hook forward priority 0\n    ${rules.join("\n    ")}\n  }\n}\n`;
    // One transaction: the frames in between meet the old rules or the new ones, never none.
    await run(
      ["nft", "-f", "-"],
      `table bridge lab\ndelete table bridge lab\n${rules.length > 0 ? chain : ""}`,
    );
  }
}

/** Matches VRRP in both families. */
export const VRRP = ["ether type ip ip protocol 112", "ether type ip6 ip6 nexthdr 112"] as const;
