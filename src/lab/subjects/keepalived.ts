import { mkdirSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { OperationalError } from "../../base/errors.ts";
import { hostClock } from "../host-clock.ts";
import type { Lab } from "../lab.ts";
import { findProgram, run } from "../shell.ts";
import { dnatRules, keepalivedConfig } from "./keepalived-config.ts";
import { LogKeeper } from "./log-keeper.ts";
import type { RoleEvent, Subject } from "./subject.ts";

const ROLES: Readonly<{ [state: string]: string }> = { MASTER: "active", BACKUP: "backup", FAULT: "fault" };

/** keepalived for the addresses, nftables DNAT for the traffic: the baseline of the benchmark. */
export class Keepalived implements Subject {
  readonly name: "keepalived" | "conntrackd" | "haproxy" = "keepalived";
  readonly #lab: Lab;
  protected readonly log = new LogKeeper();
  readonly #roles: RoleEvent[] = [];
  #starts = 0;
  readonly #pids = new Map<string, number>();

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  unavailable(): string | undefined {
    const missing = ["keepalived", "nft"].filter((name) => findProgram(name) === undefined);
    return missing.length === 0 ? undefined : `not installed: ${missing.join(", ")}`;
  }

  async start(node: string): Promise<void> {
    const { site, plan } = this.#lab;
    // A directory per start: keepalived takes a dead process's id in an old pid file for a running one.
    const dir = `${this.#lab.work}/${node}-keepalived-${++this.#starts}`;
    mkdirSync(dir, { recursive: true });
    writeFileSync(
      `${dir}/keepalived.conf`,
      keepalivedConfig(site, this.#lab.host(node), plan.hosts, {
        notify: this.notify(node),
        tracked: this.tracked(node),
      }),
    );
    writeFileSync(`${dir}/dnat.nft`, `table inet peer\ndelete table inet peer\n${dnatRules(site)}`);
    await run(["ip", "netns", "exec", node, "nft", "-f", `${dir}/dnat.nft`]);
    const child = this.#lab.spawn(
      node,
      [
        "keepalived",
        "-n",
        "-l",
        "-D",
        "-P",
        "-f",
        `${dir}/keepalived.conf`,
        "-p",
        `${dir}/main.pid`,
        "-r",
        `${dir}/vrrp.pid`,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    if (child.pid !== undefined) this.#pids.set(node, child.pid);
    this.log.follow(node, child, (line) => {
      const state = /Entering (MASTER|BACKUP|FAULT) STATE/.exec(line)?.[1];
      const role = ROLES[state ?? ""];
      if (role !== undefined) this.#roles.push({ at: hostClock.monotonic(), node, role });
    });
    child.on("exit", () => this.#roles.push({ at: hostClock.monotonic(), node, role: "off" }));
  }

  /** keepalived has no hand-over: its users stop it on the Active, which advertises priority 0. */
  async switchover(from: string): Promise<void> {
    const pid = this.#pids.get(from);
    if (pid === undefined) throw new OperationalError("NOT_FOUND", `keepalived does not run on ${from}`);
    process.kill(pid, "SIGTERM");
  }

  async afterSwitchover(from: string): Promise<void> {
    await this.start(from);
  }

  /** Called as `SCRIPT primary|backup|fault` on every change. */
  protected notify(_node: string): string | undefined {
    return undefined;
  }

  /** A file with 0 while what the addresses serve for runs on the node, and another number while not. */
  protected tracked(_node: string): string | undefined {
    return undefined;
  }

  async restart(node: string): Promise<void> {
    const gone = (): boolean => this.#lab.processesCalled(node, "keepalived").length === 0;
    await this.switchover(node);
    for (let i = 0; i < 250 && !gone(); i++) await sleep(20);
    await this.start(node);
  }
  /** keepalived alone has nothing to tell the other node. */
  async synced(): Promise<void> {}
  async reload(): Promise<void> {}

  proxies(_node: string): readonly number[] {
    return [];
  }
  process(): undefined {
    return undefined;
  }
  roles(): readonly RoleEvent[] {
    return this.#roles;
  }
  said(node: string): readonly string[] {
    return this.log.said(node);
  }
}
