import { join } from "node:path";
import { z } from "zod";
import { OperationalError, messageOf } from "../../base/errors.ts";
import { type DurationMs, addTime, ms, seconds } from "../../base/time.ts";
import { suggest } from "../../config/explain/near.ts";
import type { NodeAdminStatus, NodeRequest } from "../../contracts/api.ts";
import type { FlowsReport } from "../../contracts/flows.ts";
import type { RouterStatus } from "../../contracts/redundancy.ts";
import type { Site } from "../../contracts/site.ts";
import { StateFile } from "../../health/state-file.ts";
import type { ChildContext } from "../child.ts";
import { proxyServices } from "../proxy-services.ts";
import { type Mover, movers } from "./policy-maintenance.ts";

const fileSchema = z.strictObject({
  version: z.literal(1),
  state: z.enum(["enabled", "drain", "maintenance"]),
  /** Milliseconds since 1970. */
  since: z.number(),
});
type Kept = Omit<z.output<typeof fileSchema>, "version">;

/** What taking the node out needs of the brain. */
export interface MaintenancePorts {
  site(): Site;
  /** Undefined while the redundancy process says nothing. */
  routers(): readonly RouterStatus[] | undefined;
  flows(): FlowsReport | undefined;
  /** The plan is another one: priorities change. */
  replan(): void;
  switchover(router: string, to: string): Promise<void>;
  /** Health answers fail; connections end with their next answer. */
  proxies(failing: boolean, retiring: boolean): void;
  /** Open connections of clients to this node's proxies. */
  connections(): number;
  changed(): void;
}

const LOOK_EVERY = ms(200);
/** Workers tell their connections once a second: an older count says nothing of those that have ended since. */
const COUNTS_AFTER = seconds(2);

/** The node as a whole, taken out by an operator and brought back; on disk before a request is answered. */
export class NodeMaintenance {
  readonly #context: Pick<ChildContext, "clock" | "log" | "node">;
  readonly #file: StateFile;
  #ports: MaintenancePorts | undefined;
  #kept: Kept;
  #phase: NodeAdminStatus["phase"] = "done";
  #left: readonly string[] = [];
  /** Of the last request: what an older one still waits for, it does not do. */
  #generation = 0;

  private constructor(context: Pick<ChildContext, "clock" | "log" | "node">, file: StateFile, kept: Kept) {
    this.#context = context;
    this.#file = file;
    this.#kept = kept;
  }

  /** What cannot be understood is kept aside, and the node counts as enabled. */
  static async open(
    context: Pick<ChildContext, "clock" | "log" | "node" | "state">,
  ): Promise<NodeMaintenance> {
    const file = new StateFile(join(context.state, "node-admin.json"));
    const enabled: Kept = { state: "enabled", since: 0 };
    try {
      const value = await file.read();
      const { state, since } = value === undefined ? enabled : fileSchema.parse(value);
      return new NodeMaintenance(context, file, { state, since });
    } catch (error) {
      const aside = await file.keepAside().catch(() => file.path);
      const reason = `whether this node was in maintenance is not known: ${messageOf(error)}`;
      context.log.error({ event: "node.admin_unreadable", reason, kept: aside });
      return new NodeMaintenance(context, file, enabled);
    }
  }

  /** Before anything is asked. A node that was out before a restart is out from the start. */
  use(ports: MaintenancePorts): void {
    this.#ports = ports;
    if (this.#kept.state !== "enabled") ports.proxies(true, false);
  }

  /** For the redundancy process' plan. */
  get reason(): string | undefined {
    const { state, since } = this.#kept;
    // Announced first: until then it is Active like any other.
    if (state === "enabled" || this.#phase === "announcing") return undefined;
    const how = state === "drain" ? "drained" : "put into maintenance";
    return `an operator has ${how} this node at ${new Date(since).toISOString()}`;
  }

  get status(): NodeAdminStatus {
    const { state, since } = this.#kept;
    return {
      state,
      ...(state === "enabled" ? {} : { since: new Date(since).toISOString() }),
      phase: this.#phase,
      left: this.#left,
    };
  }

  /** Throws OperationalError: NOT_FOUND, CONFLICT where nobody can take over, FILE_UNREADABLE. */
  async set(request: NodeRequest): Promise<NodeAdminStatus> {
    const ports = this.#ports;
    if (ports === undefined)
      throw new OperationalError("CONFLICT", "the node is starting", { retryable: true });
    this.#mine(request.node, ports.site());
    const { state } = request;
    if (state !== "enabled" && !request.force) this.#check(ports);
    const { clock, log } = this.#context;
    // Who is out already has announced it, and stays out meanwhile.
    const out = this.reason !== undefined;
    const same = state === this.#kept.state;
    const since = same ? this.#kept.since : clock.wall();
    await this.#file.write({ version: 1, state, since });
    const generation = ++this.#generation;
    this.#kept = { state, since };
    this.#left = [];
    log.info({ event: "node.admin_changed", state, force: request.force, reason: "an operator asked" });
    if (state === "enabled") this.#enable(ports);
    else {
      this.#phase = state === "drain" && !out ? "announcing" : "moving";
      this.#takeOut(ports, request, generation).catch((error: unknown) => {
        if (generation === this.#generation) this.#end([messageOf(error)]);
      });
    }
    ports.changed();
    return this.status;
  }

  #mine(asked: string, site: Site): void {
    const { node } = this.#context;
    if (asked === node) return;
    const other = site.nodes[asked];
    if (other === undefined) {
      const hint = suggest(asked, Object.keys(site.nodes), "nodes");
      throw new OperationalError(
        "NOT_FOUND",
        `the site has no node "${asked}" (${hint ?? ""}; a backend is given as POOL/BACKEND)`,
      );
    }
    const how =
      site.control === undefined
        ? `run the command on ${asked}, or give the site a \`control\` section so that other nodes can be asked`
        : `run the command on ${asked}, or with --control ${other.address}:${site.control.port} --control-name ${asked}`;
    throw new OperationalError("CONFLICT", `this is node ${node}, and a node takes out only itself: ${how}`);
  }

  #check(ports: MaintenancePorts): void {
    const stuck = this.#movers(ports).filter(({ to }) => to === undefined);
    if (stuck.length === 0) return;
    const why = stuck.map(({ router, reason }) => `nobody can take over ${router}: ${reason}`).join("; ");
    throw new OperationalError("CONFLICT", `${why} (--force takes the node out all the same)`, {
      retryable: true,
    });
  }
  #movers(ports: MaintenancePorts): Mover[] {
    const { node } = this.#context;
    const site = ports.site();
    const routers = ports.routers();
    if (routers !== undefined) return movers(site, node, routers, ports.flows());
    return Object.entries(site.virtualRouters)
      .filter(([, { priorities }]) => priorities[node] !== undefined)
      .map(([router]) => ({ router, to: undefined, reason: "the redundancy process does not answer" }));
  }

  #enable(ports: MaintenancePorts): void {
    this.#phase = "done";
    ports.proxies(false, false);
    ports.replan();
  }

  async #takeOut(ports: MaintenancePorts, { state, within }: NodeRequest, generation: number): Promise<void> {
    const over = (): boolean => generation !== this.#generation;
    ports.proxies(true, false);
    if (this.#phase === "announcing") {
      await this.#wait(this.#announceFor(ports.site()));
      if (over()) return;
    }
    this.#enter("moving", ports);
    ports.replan();
    const left: string[] = [];
    for (const { router, to, reason } of this.#movers(ports)) {
      const why = to === undefined ? reason : await attempt(() => ports.switchover(router, to));
      if (over()) return;
      if (why !== "") left.push(`${router} stays here until a healthier node is heard: ${why}`);
    }
    this.#enter("finishing", ports);
    ports.proxies(true, true);
    if (state === "drain" && this.#hasProxies(ports.site())) {
      const waited = await this.#finish(ports, ms(within), over);
      if (over()) return;
      if (waited > 0) left.push(`${waited} connections of clients remain: they end when the node stops`);
    }
    this.#end(left);
    ports.changed();
  }

  /** Waits until no client is connected; answers how many are at the end. */
  async #finish(ports: MaintenancePorts, within: DurationMs, over: () => boolean): Promise<number> {
    const { clock } = this.#context;
    const until = addTime(clock.monotonic(), within);
    await this.#wait(ms(Math.min(within, COUNTS_AFTER)));
    while (!over() && ports.connections() > 0 && clock.monotonic() < until) await this.#wait(LOOK_EVERY);
    return ports.connections();
  }

  #enter(phase: NodeAdminStatus["phase"], ports: MaintenancePorts): void {
    this.#phase = phase;
    ports.changed();
  }
  #end(left: readonly string[]): void {
    this.#phase = "done";
    this.#left = left;
    const { state } = this.#kept;
    const reason = left.join("; ") || "nothing is served here any more";
    this.#context.log.info({ event: "node.taken_out", state, reason });
  }
  #hasProxies(site: Site): boolean {
    return Object.keys(proxyServices(site, this.#context.node)).length > 0;
  }
  #announceFor(site: Site): DurationMs {
    const services = Object.values(proxyServices(site, this.#context.node));
    return ms(Math.max(0, ...services.map(({ proxy }) => proxy.health?.announce ?? 0)));
  }
  #wait(span: DurationMs): Promise<void> {
    const { clock } = this.#context;
    return new Promise((resolve) => clock.setTimer(addTime(clock.monotonic(), span), resolve));
  }
}

/** Empty, or why it failed. */
async function attempt(what: () => Promise<void>): Promise<string> {
  try {
    await what();
    return "";
  } catch (error) {
    return messageOf(error);
  }
}
