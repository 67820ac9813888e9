import { mkdirSync, writeFileSync } from "node:fs";
import type { Lab } from "../lab.ts";
import { findProgram } from "../shell.ts";
import { haproxyConfig, superviseScript } from "./haproxy-config.ts";
import { Keepalived } from "./keepalived.ts";

/** HAProxy on each node, and keepalived that gives up the addresses while it does not run: the classic pair. */
export class HaproxyPair extends Keepalived {
  override readonly name = "haproxy";
  readonly #lab: Lab;

  constructor(lab: Lab) {
    super(lab);
    this.#lab = lab;
  }

  override unavailable(): string | undefined {
    if (findProgram("haproxy") === undefined) return "not installed: haproxy";
    return super.unavailable();
  }

  override async start(node: string): Promise<void> {
    // It stays when keepalived is stopped for a switchover, as it does where both are units of their own.
    if (this.#lab.plan.proxies.includes(node) && this.proxies(node).length === 0) this.#startProxy(node);
    if (this.#lab.routers.includes(node)) await super.start(node);
  }

  #startProxy(node: string): void {
    const dir = this.#directory(node);
    mkdirSync(dir, { recursive: true });
    writeFileSync(`${dir}/haproxy.cfg`, haproxyConfig(this.#lab.site));
    // keepalived reads it when it starts.
    writeFileSync(this.#served(node), "0\n");
    const script = superviseScript(
      findProgram("haproxy") ?? "haproxy",
      `${dir}/haproxy.cfg`,
      this.#served(node),
    );
    writeFileSync(`${dir}/supervise.sh`, script, { mode: 0o755 });
    this.log.follow(
      node,
      this.#lab.spawn(node, [`${dir}/supervise.sh`], { stdio: ["ignore", "pipe", "pipe"] }),
      () => {},
    );
  }

  #directory(node: string): string {
    return `${this.#lab.work}/${node}-haproxy`;
  }

  protected override tracked(node: string): string | undefined {
    return this.#lab.plan.proxies.includes(node) ? this.#served(node) : undefined;
  }
  #served(node: string): string {
    return `${this.#directory(node)}/served`;
  }

  override proxies(node: string): readonly number[] {
    return this.#lab.processesCalled(node, "haproxy");
  }
}
