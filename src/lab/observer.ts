import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { hostClock } from "./host-clock.ts";
import type { OwnerEvent } from "./policy.ts";
import { run } from "./shell.ts";

/** Watches who has which virtual address, as the nodes' kernels tell it. */
export class OwnerObserver {
  readonly events: OwnerEvent[] = [];
  readonly #monitor: (node: string, argv: readonly string[]) => ChildProcess;
  readonly #virtual: ReadonlySet<string>;
  readonly #owns = new Map<string, Set<string>>();

  /** `monitor` starts a program on a node that no fault touches. */
  constructor(
    addresses: readonly string[],
    monitor: (node: string, argv: readonly string[]) => ChildProcess,
  ) {
    this.#virtual = new Set(addresses);
    this.#monitor = monitor;
  }

  async watch(node: string): Promise<void> {
    const child = this.#monitor(node, ["ip", "-o", "monitor", "address"]);
    createInterface({ input: child.stdout! }).on("line", (line) => this.#hear(node, line));
    for (const line of (await run(["ip", "-n", node, "-o", "address"])).split("\n")) this.#hear(node, line);
  }

  #hear(node: string, line: string): void {
    const match = /^(Deleted )?\d+: +\S+ +inet6? ([0-9a-f.:]+)\//.exec(line);
    const address = match?.[2];
    if (address !== undefined && this.#virtual.has(address))
      this.#note(node, address, match?.[1] === undefined);
  }

  #note(node: string, address: string, owns: boolean): void {
    const mine = this.#owns.get(node) ?? new Set();
    this.#owns.set(node, mine);
    if (mine.has(address) === owns) return;
    if (owns) mine.add(address);
    else mine.delete(address);
    this.events.push({ at: hostClock.monotonic(), node, address, owns });
  }

  /** A node without power has nothing, whatever its frozen kernel still holds. */
  lost(node: string): void {
    for (const address of Array.from(this.#owns.get(node) ?? [])) this.#note(node, address, false);
  }

  owners(address: string): string[] {
    return [...this.#owns].filter(([, mine]) => mine.has(address)).map(([node]) => node);
  }
}
