import { setTimeout as sleep } from "node:timers/promises";
import { mkdirSync, writeFileSync } from "node:fs";
import type { Lab } from "../lab.ts";
import { findProgram, run } from "../shell.ts";
import { conntrackdConfig, notifyScript } from "./conntrackd-config.ts";
import { Keepalived } from "./keepalived.ts";

/** keepalived with conntrackd beside it, as its manual sets up a pair: FT-FW, and the primary-backup script on every change. */
export class Conntrackd extends Keepalived {
  override readonly name: "conntrackd" | "keepalived" = "conntrackd";
  readonly #starts = new Map<string, number>();
  readonly #lab: Lab;

  constructor(lab: Lab) {
    super(lab);
    this.#lab = lab;
  }

  override unavailable(): string | undefined {
    if (findProgram("conntrackd") === undefined) return "not installed: conntrackd";
    return super.unavailable();
  }

  override async start(node: string): Promise<void> {
    // It stays when keepalived is stopped for a switchover, as it does where both are units of their own.
    if (this.#lab.processesCalled(node, "conntrackd").length === 0) await this.#startDaemon(node);
    await super.start(node);
  }

  async #startDaemon(node: string): Promise<void> {
    const count = (this.#starts.get(node) ?? 0) + 1;
    this.#starts.set(node, count);
    const dir = this.#directory(node);
    mkdirSync(dir, { recursive: true });
    const config = `${dir}/conntrackd.conf`;
    writeFileSync(config, conntrackdConfig(this.#lab.site, node, this.#lab.plan.hosts, dir));
    const program = findProgram("conntrackd") ?? "conntrackd";
    writeFileSync(`${dir}/primary-backup.sh`, notifyScript(program, config), { mode: 0o755 });
    // As the manual asks: the peers' entries do not carry TCP windows.
    const liberal = "echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
    await run(["ip", "netns", "exec", node, "sh", "-c", liberal]);
    await run(["ip", "netns", "exec", node, program, "-d", "-C", config]);
  }

  #directory(node: string): string {
    return `${this.#lab.work}/${node}-conntrackd-${this.#starts.get(node) ?? 0}`;
  }

  protected override notify(node: string): string | undefined {
    return `${this.#directory(node)}/primary-backup.sh`;
  }

  /** It tells nobody; what is in flight has arrived by then. */
  override async synced(): Promise<void> {
    await sleep(1000);
  }
}
