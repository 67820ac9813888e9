/** A running lab: hosts, wires, backends, observers, and the subject on its nodes. */
import type { ChildProcess, SpawnOptions } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { extname, isAbsolute, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ipFamily } from "../base/addresses.ts";
import { ConfigError, OperationalError } from "../base/errors.ts";
import type { Site } from "../contracts/site.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import { hostClock } from "./host-clock.ts";
import { buildHost, buildNetworks, cutCables, processesOf, removeHost } from "./network.ts";
import { OwnerObserver } from "./observer.ts";
import { WORK } from "./outer.ts";
import { entryCommand, run, start } from "./shell.ts";
import type { Subject } from "./subjects/subject.ts";
import { type LabHost, type LabPlan, planLab } from "./topology.ts";
import { Cables } from "./cables.ts";

const STEADY_WITHIN = 20_000;

export class Lab {
  readonly site: Site;
  /** What the nodes read: a copy inside the lab, so that a drill may change it; the given file where it is a program. */
  readonly siteFile: string;
  readonly ownsSiteFile: boolean;
  readonly #givenFile: string;
  readonly plan: LabPlan;
  readonly work = WORK;
  readonly cables = new Cables();
  readonly observer: OwnerObserver;
  readonly #aside: readonly string[];
  #subject: Subject | undefined;
  /** Processes of the lab itself that stand in a host's namespace: no fault touches them. */
  readonly #own = new Set<number>();
  readonly #backends = new Map<string, ChildProcess>();

  /** `realTime`: backends stand for machines of their own, which the nodes' load does not slow down. */
  constructor(site: Site, siteFile: string, realTime = false) {
    this.#aside = realTime ? ["chrt", "--rr", "10"] : [];
    const plan = planLab(site);
    if (!plan.ok)
      throw new ConfigError(
        plan.error.map((message) => ({ file: siteFile, line: 1, column: 1, path: "lab", message })),
      );
    this.site = site;
    this.#givenFile = resolve(siteFile);
    this.ownsSiteFile = [".yaml", ".yml", ".json"].includes(extname(siteFile));
    this.siteFile = this.ownsSiteFile ? `${this.work}/site${extname(siteFile)}` : this.#givenFile;
    this.plan = plan.value;
    this.observer = new OwnerObserver(
      this.plan.virtual.map(({ address }) => address),
      (node, argv) => this.spawn(node, argv, { stdio: ["ignore", "pipe", "ignore"], own: true }),
    );
  }

  async up(): Promise<void> {
    mkdirSync(this.work, { recursive: true });
    if (this.ownsSiteFile) copyFileSync(this.#givenFile, this.siteFile);
    await this.#makeKeys();
    await buildNetworks(this.plan);
    for (const host of this.plan.hosts) await buildHost(this.plan, host);
    await Promise.all(
      this.plan.hosts.filter(({ kind }) => kind === "backend").map(({ name }) => this.startBackend(name)),
    );
    for (const node of this.nodes) await this.observer.watch(node);
  }

  /** Certificates that vanish with the lab; the site's own are none of its business. */
  async #makeKeys(): Promise<void> {
    const keys = this.site.flows?.keys;
    if (keys === undefined || isAbsolute(keys) || !this.ownsSiteFile) return;
    await makeKeys(join(this.work, keys), this.site.site, Object.keys(this.site.nodes));
  }

  get nodes(): readonly string[] {
    return this.plan.hosts.filter(({ kind }) => kind === "node").map(({ name }) => name);
  }
  /** Those that may hold a virtual address. */
  get routers(): readonly string[] {
    const { virtualRouters } = this.site;
    return this.nodes.filter((node) =>
      Object.values(virtualRouters).some(({ priorities }) => priorities[node] !== undefined),
    );
  }
  get client(): string {
    const client = this.plan.hosts.find(({ kind }) => kind === "client");
    if (client === undefined) throw new OperationalError("NOT_FOUND", "the lab has no client");
    return client.name;
  }
  get subject(): Subject {
    if (this.#subject === undefined) throw new Error("no subject was started");
    return this.#subject;
  }

  host(name: string): LabHost {
    const host = this.plan.hosts.find((one) => one.name === name);
    if (host !== undefined) return host;
    const known = this.plan.hosts.map((one) => one.name).join(", ");
    throw new OperationalError("NOT_FOUND", `the lab has no host "${name}"; it has ${known}`);
  }

  /**
   * A node that starts proxies again keeps a processor busy for a second, which nodes that are machines of their own
   * do not feel: on a site with proxies each keeps to its own processor, as far as there are some.
   */
  #processor(host: string): readonly string[] {
    const index = this.nodes.indexOf(host);
    if (index < 0 || this.plan.proxies.length === 0) return [];
    return ["taskset", "--cpu-list", String(index % availableParallelism())];
  }

  spawn(host: string, argv: readonly string[], options: SpawnOptions & { own?: boolean } = {}): ChildProcess {
    const child = start(["ip", "netns", "exec", host, ...this.#processor(host), ...argv], options);
    child.on("error", () => {});
    if (options.own === true && child.pid !== undefined) this.#own.add(child.pid);
    return child;
  }

  async startBackend(name: string): Promise<void> {
    const { listens } = this.host(name);
    const options = JSON.stringify({ name, listens });
    const child = this.spawn(name, [...this.#aside, ...entryCommand("backend-entry"), options], {
      stdio: ["ignore", "pipe", "inherit"],
      own: true,
    });
    this.#backends.set(name, child);
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once("data", () => resolve());
      child.once("exit", (code) =>
        reject(new OperationalError("CHILD_FAILED", `the backend ${name} ended with ${code}`)),
      );
    });
    child.removeAllListeners("exit");
  }

  stopBackend(name: string): void {
    this.#backends.get(name)?.kill("SIGKILL");
  }

  #gathered = false;

  /** Builds the crowd, once: each cable asks for addresses by itself and answers only for its own. */
  async gather(): Promise<void> {
    if (this.#gathered) return;
    this.#gathered = true;
    const { crowd } = this.plan;
    await buildHost(this.plan, crowd);
    const lines = crowd.interfaces.flatMap(({ name, network, addresses }, index) => {
      const prefixes = this.plan.networks.find((one) => one.name === network)?.prefixes ?? [];
      return addresses
        .filter(({ address }) => ipFamily(address) === 4)
        .flatMap(({ address, length }) => [
          `rule add from ${address} table ${100 + index}`,
          ...prefixes
            .filter((one) => ipFamily(one.address) === 4 && one.length === length)
            .map(
              (one) =>
                `route add ${one.address}/${one.length} dev ${name} src ${address} table ${100 + index}`,
            ),
        ]);
    });
    await run(["ip", "-n", crowd.name, "-batch", "-"], `${lines.join("\n")}\n`);
    const quiet = ["arp_ignore 1", "arp_announce 2", "arp_filter 0", "rp_filter 0"].map((one) => {
      const [key, value] = one.split(" ");
      return `echo ${value} > /proc/sys/net/ipv4/conf/all/${key}`;
    });
    await run(["ip", "netns", "exec", crowd.name, "sh", "-ec", quiet.join("\n")]);
  }

  /** Starts the subject on every node and waits until one of them serves. */
  async startSubject(subject: Subject): Promise<void> {
    this.#subject = subject;
    for (const node of this.nodes) await subject.start(node);
    await this.steady();
  }

  async stopSubject(): Promise<void> {
    for (const node of this.nodes) await this.reboot(node, false);
    this.#subject = undefined;
  }

  /** Whether this subject is the one on the nodes. */
  runs(subject: Subject): boolean {
    return this.#subject === subject;
  }

  /** Every process of a node but the lab's own. */
  processes(node: string): number[] {
    return processesOf(node, this.#own);
  }

  /** Those of a name, as the kernel has it. */
  processesCalled(node: string, name: string): number[] {
    return this.processes(node).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === name;
      } catch {
        return false; // it ended in the meantime
      }
    });
  }

  signal(pids: readonly number[], signal: NodeJS.Signals): void {
    for (const pid of pids)
      try {
        process.kill(pid, signal);
      } catch {
        // It ended by itself in the meantime.
      }
  }

  /**
   * Power fails: no process says a last word. They are frozen first: one that saw its first cable go would
   * say goodbye over the second.
   */
  async cutPower(node: string): Promise<void> {
    this.signal(this.processes(node), "SIGSTOP");
    await cutCables(this.host(node));
    this.observer.lost(node);
    this.signal(this.processes(node), "SIGKILL");
  }

  /** The node comes back as after a boot: a fresh kernel state and a fresh start of the subject. */
  async reboot(node: string, withSubject = true): Promise<void> {
    const host = this.host(node);
    await cutCables(host);
    this.observer.lost(node);
    this.signal(processesOf(node), "SIGKILL");
    await removeHost(host);
    await buildHost(this.plan, host);
    await this.observer.watch(node);
    if (withSubject) await this.subject.start(node);
  }

  /** The one node that has every virtual address of a router; undefined while that is not so. */
  #holder(router: string): string | undefined {
    const owners = this.plan.virtual
      .filter((one) => one.router === router)
      .map(({ address }) => this.observer.owners(address));
    const [first] = owners[0] ?? [];
    return owners.every((one) => one.length === 1 && one[0] === first) ? first : undefined;
  }
  get #holders(): (string | undefined)[] {
    return [...new Set(this.plan.virtual.map(({ router }) => router))].map((router) => this.#holder(router));
  }

  /** Who is Active, for the first router where there are several; undefined while a router has no one holder. */
  get active(): string | undefined {
    const holders = this.#holders;
    return holders.includes(undefined) ? undefined : holders[0];
  }

  /** What a node says where every router is held: `mixed` while it holds some. */
  #due(node: string): string {
    const holders = this.#holders;
    if (holders.every((holder) => holder === node)) return "active";
    return holders.includes(node) ? "mixed" : "backup";
  }

  /** The node's role as it last told. */
  role(node: string): string | undefined {
    return this.subject.roles().findLast((event) => event.node === node)?.role;
  }

  /** Waits until every router has one Active, and the nodes say the same, for 300 ms in a row. */
  async steady(within = STEADY_WITHIN): Promise<string> {
    const until = hostClock.monotonic() + within;
    let since = hostClock.monotonic();
    let last: string | undefined;
    while (hostClock.monotonic() < until) {
      const active = this.active;
      const settled =
        active !== undefined && this.routers.every((node) => this.role(node) === this.#due(node));
      if (!settled || active !== last) since = hostClock.monotonic();
      last = active;
      if (settled && hostClock.monotonic() - since >= 300) return active;
      await sleep(20);
    }
    const roles = this.routers.map((node) => `${node}: ${this.role(node) ?? "silent"}`).join(", ");
    const owners = this.plan.virtual
      .map(({ address }) => `${address}: ${this.observer.owners(address).join("+") || "nobody"}`)
      .join(", ");
    throw new OperationalError(
      "TIMEOUT",
      `the site did not settle within ${within} ms (${roles}; ${owners})`,
    );
  }
}
