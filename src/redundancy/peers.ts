import { type Clock, type MonotonicMs, seconds, timeSince } from "../base/time.ts";
import type { RedundancyPlan } from "../contracts/redundancy.ts";
import type { NodeMessage } from "./group/machine-state.ts";
import { type NodeAddress, NodesService } from "./handover/service.ts";
import { type HelloRouter, type WireBody, hellosOf, routerKey } from "./handover/wire.ts";
import type { RouterRunner } from "./router.ts";
import type { Telling } from "./telling.ts";

/** A node's site file counts as known for this long after its last word. */
const FORGOTTEN = seconds(10);

export interface PeersOptions {
  readonly clock: Clock;
  readonly secret?: Uint8Array | undefined;
  readonly telling: Telling;
  readonly routers: () => Iterable<readonly [name: string, runner: RouterRunner]>;
  /** A node says something else of a virtual router than before. */
  readonly onNews: () => void;
}

/** The other nodes of this node's virtual routers: their hellos, their messages, and whether they run the same site. */
export class Peers {
  readonly #options: PeersOptions;
  readonly #digests = new Map<string, { digest: string; at: MonotonicMs }>();
  /** By node and router. */
  readonly #said = new Map<string, string>();
  #nodes: NodesService | undefined;
  #digest = "";

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  update(plan: RedundancyPlan): void {
    this.#digest = plan.digest;
    const nodes = new Map<string, NodeAddress>();
    for (const router of plan.routers)
      for (const { node, address } of router.nodes) nodes.set(node, { node, address });
    const change = {
      site: plan.site,
      node: plan.node,
      digest: plan.digest,
      nodes: [...nodes.values()],
      minHopLimit: Math.min(255, ...plan.routers.map((router) => router.minHopLimit)),
    };
    if (this.#nodes) {
      this.#nodes.update(change);
      for (const [node, known] of this.#digests) this.#compare(node, known.digest);
      return;
    }
    const { clock, secret, telling } = this.#options;
    this.#nodes = new NodesService({
      ...change,
      clock,
      secret,
      onMessage: (from, body, digest) => this.#message(from, body, digest),
      onRestart: (node) => {
        for (const [, runner] of this.#options.routers()) runner.step({ type: "restarted", node });
      },
      count: (counter) => telling.count(counter),
      onProblem: (what, reason) => telling.problem(what, reason),
    });
  }

  send(to: string, message: NodeMessage): void {
    this.#nodes?.send(to, message);
  }
  hello(): void {
    if (!this.#nodes) return;
    const routers = [...this.#options.routers()].map(([name, runner]): HelloRouter => ({
      key: routerKey(name),
      ...runner.hello(),
    }));
    for (const hello of hellosOf(routers)) this.#nodes.broadcast(hello);
  }
  drain(): void {
    this.#nodes?.drain();
  }
  forget(now: MonotonicMs): void {
    for (const [node, { at }] of this.#digests)
      if (timeSince(now, at) > FORGOTTEN) this.#digests.delete(node);
  }
  close(): void {
    this.#nodes?.close();
  }

  #message(from: string, body: WireBody, digest: string): void {
    this.#compare(from, digest);
    if (body.type !== "hello") {
      for (const [name, runner] of this.#options.routers())
        if (name === body.router) runner.step({ type: "message", from, message: body satisfies NodeMessage });
      return;
    }
    const at = this.#options.clock.monotonic();
    let news = false;
    const told = new Map(body.routers.map((router) => [router.key, router]));
    for (const [name, runner] of this.#options.routers()) {
      const router = told.get(routerKey(name));
      if (!router || !runner.plan.nodes.some(({ node }) => node === from)) continue;
      const { state, priority, eligible, life, claims } = router;
      runner.peer(from, { at, state, priority, eligible, life, claims });
      const said = `${state} ${priority}`;
      news ||= this.#said.get(`${from} ${name}`) !== said;
      this.#said.set(`${from} ${name}`, said);
    }
    if (news) this.#options.onNews();
  }
  /** Two nodes with different site files: named and alarmed; everything goes on. */
  #compare(node: string, digest: string): void {
    const { clock, telling } = this.#options;
    const differs = digest !== this.#digest;
    this.#digests.set(node, { digest, at: clock.monotonic() });
    const key = `site of ${node}`;
    if (telling.lasts(key) === differs) return;
    const fields = { node, digest, own: this.#digest };
    if (differs) {
      telling.count("sites_differ");
      const reason = `${node} runs another site file than this node`;
      telling.begins(key, "error", "redundancy.site_differs", { reason, ...fields });
    } else
      telling.ends(key, "redundancy.site_agrees", { reason: `${node} runs the same site file`, ...fields });
  }
}
