import { existsSync, readFileSync, rmSync } from "node:fs";
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { OperationalError } from "../../base/errors.ts";
import type { NodeStatus, ProcessStatus, ReloadOutcome } from "../../contracts/api.ts";
import { hostClock } from "../host-clock.ts";
import type { Lab } from "../lab.ts";
import { runtimeOf } from "../outer.ts";
import type { Finding } from "../../daemon/doctor/policy.ts";
import { attempt } from "../shell.ts";
import { askControl } from "./control.ts";
import { LogKeeper } from "./log-keeper.ts";
import type { Job, RoleEvent, Subject } from "./subject.ts";

/** Between two questions to a node; its log tells changes at once, this is for what a log may lose. */
const ASK_EVERY = 200;

/** The compiled program, also where the lab runs from source: compiling while starting takes seconds. */
const PROGRAM = new URL(
  import.meta.url.endsWith(".ts") ? "../../../dist/cli/main.js" : "../../cli/main.js",
  import.meta.url,
).pathname;

/** What `nines doctor` finds on a node. */
export async function doctorFindings(node: string): Promise<readonly Finding[]> {
  const { stdout } = await attempt([
    "ip",
    "netns",
    "exec",
    node,
    process.execPath,
    PROGRAM,
    "doctor",
    "--json",
  ]);
  return (JSON.parse(stdout) as { findings: Finding[] }).findings;
}

/** What a node that has started is still waiting for. */
function notWhole({ flows, proxy }: NodeStatus, replicates: boolean): string | undefined {
  const peers = flows?.peers ?? [];
  if (replicates && peers.length === 0) return "its flows process says nothing";
  if (replicates && !peers.every((one) => one.connected && one.sentAll && one.receivedAll))
    return JSON.stringify(peers);
  const states = proxy?.workers.map(({ state }) => state);
  // A worker that takes another's place is `starting`, one that ends `leaving`.
  const whole = states === undefined || (states.includes("serving") && states.includes("spare"));
  return whole && (states ?? []).every((one) => one === "serving" || one === "spare")
    ? undefined
    : `proxies: ${states?.join(", ")}`;
}

/** nines itself, as `nines run` starts it on each node. */
export class Nines implements Subject {
  readonly name = "nines";
  readonly #lab: Lab;
  readonly #log = new LogKeeper();
  readonly #roles: RoleEvent[] = [];
  /** State of each virtual router, by node. */
  readonly #states = new Map<string, Map<string, string>>();
  readonly #asking = new Set<string>();
  readonly #children = new Map<string, ChildProcess>();
  /** How often each node's log told of a change: an answer to a question asked before is old news. */
  readonly #heard = new Map<string, number>();

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  unavailable(): string | undefined {
    return existsSync(PROGRAM) ? undefined : "nines is not compiled: npm run build";
  }

  runtime(node: string): string {
    return `${runtimeOf(this.#lab.work, node)}/${node}`;
  }

  async start(node: string): Promise<void> {
    // A node without any process has booted or was killed: sockets that nobody answers are gone after a boot.
    if (this.#lab.processes(node).length === 0) rmSync(this.runtime(node), { recursive: true, force: true });
    const child = this.#lab.spawn(
      node,
      [
        process.execPath,
        PROGRAM,
        "run",
        this.#lab.siteFile,
        "--node",
        node,
        "--runtime",
        this.runtime(node),
        "--state",
        `${this.#lab.work}/state/${node}`,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#children.set(node, child);
    const states = new Map<string, string>();
    this.#states.set(node, states);
    this.#log.follow(node, child, (line) => this.#hear(node, states, line));
    child.on("exit", () => {
      if (this.#states.get(node) !== states) return;
      this.#states.delete(node);
      this.#tell(node, "off");
    });
    this.#askAlways(node);
  }

  #hear(node: string, states: Map<string, string>, line: string): void {
    if (!line.includes("state_changed")) return;
    try {
      const { event, router, to } = JSON.parse(line) as { event?: unknown; router?: unknown; to?: unknown };
      if (event !== "vrrp.state_changed" || typeof router !== "string" || typeof to !== "string") return;
      this.#heard.set(node, (this.#heard.get(node) ?? 0) + 1);
      this.#note(node, states, router, to);
    } catch {
      // Half a line, from a process that was killed while it wrote.
    }
  }

  #note(node: string, states: Map<string, string>, router: string, state: string): void {
    if (this.#states.get(node) !== states) return;
    states.set(router, state);
    const all = new Set(states.values());
    this.#tell(node, all.size === 1 ? state : "mixed");
  }

  #tell(node: string, role: string): void {
    if (this.#roles.findLast((one) => one.node === node)?.role !== role)
      this.#roles.push({ at: hostClock.monotonic(), node, role });
  }

  #askAlways(node: string): void {
    if (this.#asking.has(node)) return;
    this.#asking.add(node);
    let last = "";
    const ask = async (): Promise<void> => {
      const states = this.#states.get(node);
      if (states !== undefined && existsSync(`${this.runtime(node)}/control.sock`))
        try {
          const status = await this.#status(node, 500);
          // The brain hears of a change a little later than the log: only what it says twice, with no news since, counts.
          const said = JSON.stringify([
            this.#heard.get(node),
            status.routers.map(({ router, state }) => [router, state]),
          ]);
          if (status.redundancy.connected && said === last)
            for (const { router, state } of status.routers) this.#note(node, states, router, state);
          last = said;
        } catch {
          // A brain that is dead, hung or starting says nothing; the role stays what it was.
        }
      if (this.#lab.runs(this)) setTimeout(() => void ask(), ASK_EVERY);
      else this.#asking.delete(node);
    };
    void ask();
  }

  #status(node: string, within: number): Promise<NodeStatus> {
    return askControl(this.runtime(node), "GET", "/v1/status", undefined, within) as Promise<NodeStatus>;
  }

  async switchover(from: string, to: string): Promise<void> {
    const { routers } = await this.#status(from, 2000);
    for (const { router, state } of routers)
      if (state === "active")
        await askControl(this.runtime(from), "POST", "/v1/switchover", { router, to }, 10_000);
  }

  /** Nothing was stopped: the old Active is a Backup already. */
  async afterSwitchover(): Promise<void> {}

  async drain(node: string): Promise<void> {
    await this.#setNode(node, "drain");
    const until = hostClock.monotonic() + 40_000;
    for (;;) {
      const { admin } = await this.#status(node, 2000);
      if (admin.phase === "done" && admin.left.length === 0) return;
      if (admin.phase === "done" || hostClock.monotonic() > until)
        throw new OperationalError(
          "CONFLICT",
          `${node} is not drained: ${admin.left.join("; ") || admin.phase}`,
        );
      await sleep(50);
    }
  }
  async enable(node: string): Promise<void> {
    await this.#setNode(node, "enabled");
  }
  async #setNode(node: string, state: "drain" | "enabled"): Promise<void> {
    await askControl(this.runtime(node), "POST", "/v1/node", { node, state, within: 1000 }, 10_000);
  }

  async restart(node: string): Promise<void> {
    const child = this.#children.get(node);
    if (child === undefined) throw new OperationalError("NOT_FOUND", `nines does not run on ${node}`);
    const ended = child.exitCode === null ? new Promise((resolve) => child.once("exit", resolve)) : undefined;
    // A process in the node's network namespace is also in the lab's: the signal reaches the parent itself.
    child.kill("SIGTERM");
    await ended;
    await this.start(node);
  }

  async synced(node: string): Promise<void> {
    const replicates = this.#lab.site.flows !== undefined && this.#lab.routers.includes(node);
    const until = hostClock.monotonic() + 20_000;
    let last = "it does not answer";
    while (hostClock.monotonic() < until) {
      try {
        const missing = notWhole(await this.#status(node, 500), replicates);
        if (missing === undefined) return;
        last = missing;
      } catch {
        // A brain that starts.
      }
      await sleep(50);
    }
    throw new OperationalError("TIMEOUT", `${node} did not get in sync within 20 s: ${last}`);
  }

  async reload(node: string): Promise<void> {
    const outcome = (await askControl(
      this.runtime(node),
      "POST",
      "/v1/reload",
      undefined,
      10_000,
    )) as ReloadOutcome;
    if (!outcome.ok)
      throw new OperationalError("CONFLICT", `${node} refused to reload: ${outcome.errors.join("; ")}`);
  }

  process(node: string, job: Job): number | undefined {
    return this.#processes(node).find(({ name, phase }) => name === job && phase === "running")?.pid;
  }
  proxies(node: string): readonly number[] {
    return this.#processes(node).flatMap(({ name, pid }) =>
      (name === "proxy" || name === "proxy-spare") && pid !== undefined ? [pid] : [],
    );
  }

  #processes(node: string): readonly ProcessStatus[] {
    try {
      const text = readFileSync(`${this.runtime(node)}/processes.json`, "utf8");
      return (JSON.parse(text) as { children: readonly ProcessStatus[] }).children;
    } catch (error) {
      throw new OperationalError("NOT_FOUND", `${node} does not tell its processes`, { cause: error });
    }
  }

  roles(): readonly RoleEvent[] {
    return this.#roles;
  }
  said(node: string): readonly string[] {
    return this.#log.said(node);
  }
}
