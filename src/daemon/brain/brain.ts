import { type RequestListener, type Server, createServer } from "node:http";
import { join } from "node:path";
import { apiHandler } from "../../api/server.ts";
import type { ApiPorts } from "../../api/routes.ts";
import { ConfigError, OperationalError, formatConfigIssue, messageOf } from "../../base/errors.ts";
import { type MonotonicMs, type Timer, addTime, seconds, timeSince } from "../../base/time.ts";
import type { NodeStatus, ProcessStatus, ReloadOutcome } from "../../contracts/api.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { ChildContext } from "../child.ts";
import { listenUnix } from "../link.ts";
import type { ChildWish, StopMode } from "../messages-parent.ts";
import type { BrainPorts, ForwarderPort, HealthPort, SiteFile } from "../ports.ts";
import { AcceptedSite } from "./accepted.ts";
import { Accounts } from "./accounts.ts";
import { NodeCertificates } from "./certificates.ts";
import { ControlListener } from "./control-listener.ts";
import { NodeMaintenance } from "./maintenance.ts";
import { metricSamples } from "./metrics.ts";
import { checkNode, openingSite } from "./opening.ts";
import { explainBackend, explainRouter } from "./policy-explain.ts";
import { type Facts, alarms, named, poolStatuses, reportedTracks, serviceStatuses } from "./policy.ts";
import { ProxyWorkers } from "./proxy-workers.ts";
import { RedundancyLink } from "./redundancy-link.ts";
import { ScriptWatcher } from "./scripts.ts";
import { nodeStaples, stapleWishes } from "./staples.ts";

/** Facts go to the redundancy process on every change and this often; without them for 10 s we count as silent. */
const FACTS_EVERY = seconds(1);
/** What could not be written is tried again after this. */
const KEEP_AGAIN = seconds(5);

/** The process that knows the site: checks backends, keeps the forwarding tables, answers the control API. */
export class Brain {
  readonly #context: ChildContext;
  readonly #ports: BrainPorts;
  readonly #startedWall: number;
  readonly #started: MonotonicMs;
  readonly #accepted: AcceptedSite;
  readonly #scripts: ScriptWatcher;
  readonly #link: RedundancyLink;
  readonly #accounts: Accounts;
  readonly #proxies: ProxyWorkers;
  readonly #certificates: NodeCertificates;
  readonly #staples: ReturnType<typeof nodeStaples>;
  readonly #handler: RequestListener;
  readonly #control: ControlListener;
  readonly #maintenance: NodeMaintenance;
  #file: SiteFile;
  #health: HealthPort;
  #forwarder: ForwarderPort;
  #api: Server | undefined;
  #tick: Timer | undefined;
  #soon: NodeJS.Immediate | undefined;
  #siteProblem = "";
  #stateProblem = "";
  #keptAt: MonotonicMs;
  #lastReload: ReloadOutcome | undefined;
  #reloading: Promise<ReloadOutcome> | undefined;
  #reloadNext: Promise<ReloadOutcome> | undefined;
  #alarmed = new Map<string, string>();
  #summary = "";
  #processes: readonly ProcessStatus[] = [];

  private constructor(
    context: ChildContext,
    ports: BrainPorts,
    rooms: {
      file: SiteFile;
      health: HealthPort;
      forwarder: ForwarderPort;
      maintenance: NodeMaintenance;
      changed: { fire: () => void };
    },
  ) {
    this.#context = context;
    this.#ports = ports;
    this.#startedWall = context.clock.wall();
    this.#started = context.clock.monotonic();
    this.#keptAt = context.clock.monotonic();
    this.#accepted = new AcceptedSite(context.state);
    this.#file = rooms.file;
    this.#health = rooms.health;
    this.#forwarder = rooms.forwarder;
    rooms.changed.fire = () => this.#changed();
    this.#scripts = new ScriptWatcher(context.clock, () => this.#changed());
    this.#proxies = new ProxyWorkers(context, () => this.#changed());
    this.#certificates = new NodeCertificates(context, this.#proxies);
    this.#staples = nodeStaples(context);
    this.#link = new RedundancyLink(
      context,
      () => this.#plan(),
      () => this.#changed(),
      (event, fields) => this.#redundancyEvent(event, fields),
    );
    this.#maintenance = rooms.maintenance;
    this.#maintenance.use({
      site: () => this.#file.site,
      routers: () => this.#link.routers,
      flows: () => this.#link.flows,
      replan: () => this.#link.sendPlan(),
      switchover: (router, to) => this.#link.switchover(router, to),
      proxies: (failing, retiring) => this.#proxies.takeOut(failing, retiring),
      connections: () => this.#proxies.connections(),
      changed: () => this.#changed(),
    });
    this.#handler = apiHandler(this.#apiPorts(), context.log);
    this.#control = new ControlListener(context, this.#handler);
    this.#accounts = new Accounts(context, rooms.file.site, () => this.#roomSamples());
  }

  /** Throws a ConfigError or an OperationalError where the node cannot start. */
  static async start(context: ChildContext, ports: BrainPorts): Promise<Brain> {
    const { file, problem } = await openingSite(context, ports);
    checkNode(file, context.node);
    // The rooms are made before the brain, which they tell of changes.
    const changed = { fire: (): void => {} };
    const health = await ports.health(context, () => changed.fire());
    const forwarder = await ports.forwarder(context, file.site);
    const maintenance = await NodeMaintenance.open(context);
    const brain = new Brain(context, ports, { file, health, forwarder, maintenance, changed });
    brain.#siteProblem = problem;
    await brain.#begin();
    return brain;
  }

  async #begin(): Promise<void> {
    const { log, runtime } = this.#context;
    this.#control.update(this.#file.site);
    void this.#certificates.useSite(this.#file.site);
    for (const warning of this.#file.warnings) log.warn({ event: "site.warning", reason: warning });
    this.#api = createServer(this.#handler);
    await listenUnix(this.#api, join(runtime, "control.sock"), { replace: this.#context.successor });
    this.#health.update(this.#file.site);
    this.#scripts.update(this.#file.site, this.#context.node);
    this.#apply();
    // Before the proxy workers start: they take what is accepted, not what somebody edits just now.
    if (this.#siteProblem === "") await this.#keep();
    this.#proxies.site(this.#file.digest);
    await this.#proxies.start();
    this.#context.tell({ type: "children", wishes: this.#wishes() });
    this.#accounts.start();
    this.#link.start();
    this.#beat();
  }

  /** A disk that is full is no reason not to serve: an alarm, and again in a while. */
  async #keep(): Promise<void> {
    const { clock, log } = this.#context;
    this.#keptAt = clock.monotonic();
    try {
      await this.#accepted.write(this.#file);
      this.#stateProblem = "";
    } catch (error) {
      const reason = messageOf(error);
      if (this.#stateProblem === "") log.error({ event: "state.not_written", reason });
      this.#stateProblem = reason;
    }
  }

  processes(list: readonly ProcessStatus[]): void {
    this.#processes = list;
  }

  /** What runs beside the brain for this site. */
  #wishes(): ChildWish[] {
    const { node } = this.#context;
    const routers = Object.values(this.#file.site.virtualRouters);
    const takesPart = routers.some((router) => router.priorities[node] !== undefined);
    return [
      { name: "redundancy", count: takesPart ? 1 : 0, listen: [] },
      ...this.#ports.children(this.#file.site, node),
    ];
  }

  #proxyCount(): number {
    return this.#wishes().find(({ name }) => name === "proxy")?.count ?? 0;
  }
  #hasProxies(): boolean {
    return this.#proxyCount() > 0;
  }

  #plan() {
    const plan = this.#ports.plan(this.#file.site, this.#context.node, this.#file.digest);
    const { reason } = this.#maintenance;
    return reason === undefined ? plan : { ...plan, maintenance: reason };
  }

  #facts(): Facts {
    return {
      site: this.#file.site,
      node: this.#context.node,
      backends: this.#health.statuses(),
      scripts: this.#scripts.verdicts(),
      routers: this.#link.routers?.map((router) => named(router, this.#file.site)),
      redundancySilence: this.#link.age(),
      forwardingProblem: this.#forwarder.problem(),
      differing: this.#link.differing,
      duplicates: this.#link.duplicates,
      siteProblem: this.#siteProblem,
      isolated: this.#health.isolated?.(),
      proxyProblem: this.#hasProxies() ? (this.#proxies.problem() ?? "") : undefined,
      proxyShort: this.#proxies.short(this.#proxyCount()),
      proxyStale: this.#proxies.stale(),
      age: timeSince(this.#context.clock.monotonic(), this.#started),
      accountsProblem: this.#accounts.problem(),
      stateProblem: this.#stateProblem,
      controlProblem: this.#control.problem(),
      certificates: this.#certificates.problems(),
      sharingProblem: this.#certificates.sharingProblem(),
      admin: this.#maintenance.status,
    };
  }

  /** Something changed: once per turn of the loop, however much changed in it. */
  #changed(): void {
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined;
      this.#apply();
      this.#tell();
    });
  }

  #beat(): void {
    this.#tell();
    const { clock } = this.#context;
    if (this.#stateProblem !== "" && timeSince(clock.monotonic(), this.#keptAt) > KEEP_AGAIN)
      void this.#keep();
    this.#tick = clock.setTimer(addTime(clock.monotonic(), FACTS_EVERY), () => {
      this.#apply();
      this.#beat();
    });
  }

  #apply(): void {
    const backends = this.#health.statuses();
    this.#forwarder.apply(this.#file.site, backends);
    this.#proxies.backends(backends);
  }

  #tell(): void {
    const facts = this.#facts();
    this.#certificates.update(facts.site, facts.routers, facts.proxyProblem === "");
    this.#staples.update(stapleWishes(facts.site, this.#context.node, this.#context.state));
    this.#link.send({ type: "facts", facts: reportedTracks(facts) });
    this.#accounts.judge(facts);
    this.#logAlarms(facts);
    const summary = (facts.routers ?? []).map((router) => `${router.router} ${router.state}`).join(", ");
    if (summary !== this.#summary) this.#context.tell({ type: "summary", text: summary });
    this.#summary = summary;
  }

  #logAlarms(facts: Facts): void {
    const { log } = this.#context;
    const now = new Map(alarms(facts).map((alarm) => [`${alarm.name} ${alarm.about}`, alarm]));
    for (const [key, alarm] of now) {
      const fields = { alarm: alarm.name, about: alarm.about, reason: alarm.message };
      if (this.#alarmed.get(key) === undefined) {
        if (alarm.severity === "critical") log.error({ event: "alarm.raised", ...fields });
        else log.warn({ event: "alarm.raised", ...fields });
      }
    }
    for (const [key, message] of this.#alarmed) {
      if (!now.has(key))
        log.info({ event: "alarm.cleared", alarm: key.trim(), reason: `no longer: ${message}` });
    }
    this.#alarmed = new Map([...now].map(([key, alarm]) => [key, alarm.message]));
  }

  /** One at a time. Who asks while one runs may have edited the file since: one more follows, for all of them. */
  reload(): Promise<ReloadOutcome> {
    if (this.#reloading === undefined) {
      this.#reloading = this.#reload().finally(() => (this.#reloading = undefined));
      return this.#reloading;
    }
    this.#reloadNext ??= this.#reloading.then(() => {
      this.#reloadNext = undefined;
      return this.reload();
    });
    return this.#reloadNext;
  }

  async #reload(): Promise<ReloadOutcome> {
    const { context } = { context: this.#context };
    context.tell({ type: "reloading", done: false });
    const at = this.#iso();
    let outcome: ReloadOutcome;
    try {
      const file = await this.#ports.loadSite(context.site);
      checkNode(file, context.node);
      const changes = this.#ports.differences(this.#file.site, file.site);
      this.#file = file;
      this.#siteProblem = "";
      await this.#keep();
      this.#health.update(file.site);
      this.#accounts.useSite(file.site);
      this.#control.update(file.site);
      void this.#certificates.useSite(file.site);
      this.#scripts.update(file.site, context.node);
      this.#apply();
      this.#proxies.site(file.digest);
      this.#link.sendPlan();
      context.tell({ type: "children", wishes: this.#wishes() });
      const refused = await this.#proxies.refusals();
      outcome = { at, ok: true, errors: [], changes, ...(refused.length > 0 ? { refused } : {}) };
      context.log.info({
        event: "site.reloaded",
        reason: `${changes.length} differences`,
        changes,
        digest: file.digest,
      });
    } catch (thrown) {
      const errors =
        thrown instanceof ConfigError ? thrown.issues.map(formatConfigIssue) : [messageOf(thrown)];
      this.#siteProblem = `the site file was refused at ${at}: ${errors[0] ?? ""}`;
      outcome = { at, ok: false, errors, changes: [] };
      context.log.error({ event: "site.rejected", reason: "nothing was changed", errors });
    }
    this.#lastReload = outcome;
    context.tell({ type: "reloading", done: true });
    this.#changed();
    return outcome;
  }

  #iso(): string {
    return new Date(this.#context.clock.wall()).toISOString();
  }

  status(): NodeStatus {
    const facts = this.#facts();
    const { context } = { context: this.#context };
    const stale = this.#link.age();
    return {
      site: facts.site.site,
      node: context.node,
      version: this.#ports.version,
      siteFile: context.site,
      digest: this.#file.digest,
      startedAt: new Date(this.#startedWall).toISOString(),
      ...(this.#lastReload ? { lastReload: this.#lastReload } : {}),
      admin: this.#maintenance.status,
      processes: this.#processes,
      redundancy: { connected: this.#link.connected, counters: this.#link.counters },
      forwarding: {
        good: facts.forwardingProblem === "",
        reason: facts.forwardingProblem || "as it should be",
      },
      ...(this.#link.flows ? { flows: this.#link.flows } : {}),
      // What was told some time ago goes on counting here.
      routers: (facts.routers ?? []).map((router) => ({
        ...router,
        since: (router.since + stale) as typeof router.since,
      })),
      pools: poolStatuses(facts),
      services: serviceStatuses(facts),
      ...(this.#hasProxies() ? { proxy: this.#proxies.status() } : {}),
      alarms: alarms(facts),
    };
  }

  #apiPorts(): ApiPorts {
    return {
      status: () => this.status(),
      explain: ({ router, pool, backend }) => {
        const status = this.status();
        const { site } = this.#file;
        if (pool !== undefined && backend !== undefined) {
          const found = explainBackend(status, site, this.#forwarder.explain(), pool, backend);
          if (!found) throw new OperationalError("NOT_FOUND", `the site has no backend ${pool}/${backend}`);
          return [found];
        }
        const names = router === undefined ? Object.keys(site.virtualRouters) : [router];
        return names.map((name) => {
          const found = explainRouter(status, site, name);
          if (found) return found;
          const known = Object.keys(site.virtualRouters).join(", ") || "none";
          throw new OperationalError("NOT_FOUND", `the site has no virtual router ${name}; it has ${known}`);
        });
      },
      switchover: (request) => this.#switchover(request.router, request.to),
      setBackend: async ({ pool, backend, state, persist }) => {
        await this.#health.setAdmin(pool, backend, state, persist);
        if (state === "maintenance") await this.#cut(pool, backend);
        this.#context.log.info({
          event: "backend.admin_changed",
          pool,
          backend,
          state,
          persist,
          reason: "an operator asked",
        });
        this.#changed();
        const found = this.#health.statuses().find((each) => each.pool === pool && each.backend === backend);
        if (!found) throw new OperationalError("NOT_FOUND", `the site has no backend ${pool}/${backend}`);
        return found;
      },
      setNode: (request) => this.#maintenance.set(request),
      reload: () => this.reload(),
      upgrade: () => this.#context.tell({ type: "upgrade" }),
      metrics: async () => [
        ...metricSamples(this.status(), this.#forwarder.counters(), process.memoryUsage.rss()),
        ...this.#health.metrics(),
        ...this.#accounts.samples(),
        ...this.#control.samples(),
        ...(await this.#roomSamples()),
      ],
    };
  }

  /** Counters of whoever serves: they are shown, and kept in the accounts. */
  async #roomSamples(): Promise<readonly MetricSample[]> {
    const forwarded = await this.#forwarder.metrics();
    if (!this.#hasProxies()) return forwarded;
    return [
      ...forwarded,
      ...this.#proxies.metrics(),
      ...this.#certificates.samples(),
      ...this.#staples.samples(),
    ];
  }

  #redundancyEvent(event: string, fields: Readonly<Record<string, unknown>>): void {
    const { from, to, router, silence, reason } = fields;
    if (event !== "vrrp.state_changed" || from !== "backup" || to !== "active") return;
    if (typeof router !== "string" || typeof silence !== "number" || typeof reason !== "string") return;
    // Less than two intervals: it was heard to the end, and gave way.
    const interval = this.#file.site.virtualRouters[router]?.interval ?? 0;
    if (silence > 2 * interval) this.#accounts.takeover(router, silence, reason);
  }

  /** Maintenance is now: clients meet another backend at their next packet instead of a silent one. */
  async #cut(pool: string, backend: string): Promise<void> {
    try {
      this.#apply();
      await this.#forwarder.kill(pool, backend);
    } catch (thrown) {
      this.#context.log.warn({ event: "backend.connections_kept", pool, backend, reason: messageOf(thrown) });
    }
  }

  async #switchover(asked: string | undefined, to: string | undefined) {
    const { node } = this.#context;
    const { site } = this.#file;
    const mine = Object.keys(site.virtualRouters).filter(
      (name) => site.virtualRouters[name]?.priorities[node] !== undefined,
    );
    const router = asked ?? (mine.length === 1 ? mine[0] : undefined);
    if (router === undefined)
      throw new OperationalError(
        "CONFLICT",
        `name the virtual router: this node has ${mine.join(", ") || "none"}`,
      );
    if (!mine.includes(router))
      throw new OperationalError(
        "NOT_FOUND",
        `this node has no virtual router ${router}; it has ${mine.join(", ") || "none"}`,
      );
    const others = Object.keys(site.virtualRouters[router]?.priorities ?? {});
    if (to !== undefined && !others.includes(to))
      throw new OperationalError(
        "NOT_FOUND",
        `${to} is no node of ${router}; its nodes are ${others.join(", ")}`,
      );
    if (to === node && this.#maintenance.reason !== undefined)
      throw new OperationalError(
        "CONFLICT",
        `${node} is in maintenance; nines enable ${node} brings it back`,
      );
    const { clock, log } = this.#context;
    const started = clock.monotonic();
    log.info({ event: "switchover.asked", router, to, reason: "an operator asked" });
    await this.#link.switchover(router, to);
    const state = this.#facts().routers?.find((each) => each.router === router);
    const active = state?.state === "active" ? node : (state?.active?.node ?? state?.active?.address);
    const took = Math.round(timeSince(clock.monotonic(), started));
    const message = `${router} is served by ${active ?? "another node"}; it took ${took} ms`;
    log.info({ event: "switchover.done", router, to: active, reason: message });
    return { router, message, active };
  }

  async stop(mode: StopMode): Promise<void> {
    this.#tick?.cancel();
    if (this.#soon) clearImmediate(this.#soon);
    this.#scripts.stop();
    this.#health.stop();
    this.#link.stop();
    await this.#accounts.stop();
    this.#certificates.stop();
    this.#staples.stop();
    this.#proxies.stop();
    this.#control.stop();
    this.#api?.close();
    this.#api?.closeAllConnections();
    await this.#forwarder.stop(mode === "release");
  }
}
