import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { OperationalError, messageOf } from "../base/errors.ts";
import { addTime, ms, seconds } from "../base/time.ts";
import { loadSite } from "../config/load.ts";
import { readSiteKeys } from "../config/site-keys.ts";
import type { FlowsReport, FlowsToRedundancy } from "../contracts/flows.ts";
import type { RedundancyToBrain } from "../contracts/redundancy.ts";
import type { ReplicatedService } from "../forwarding/flows/machine-services.ts";
import { peersOf, replicatedServices } from "../forwarding/flows/plan.ts";
import { FlowsService, NICE } from "../forwarding/flows/service.ts";
import { InstalledServices } from "../forwarding/flows/installed.ts";
import { preferThread } from "../linux/realtime.ts";
import type { BrainToFlows, FlowsToBrain } from "../contracts/affinity.ts";
import { AffinityService } from "../forwarding/flows/affinity.ts";
import { AcceptedSite } from "./brain/accepted.ts";
import { decodeRedundancy } from "./brain/messages.ts";
import { runChild } from "./child.ts";
import { clientsSocket, decodeFromBrain } from "./clients-link.ts";
import { LinkClient } from "./link.ts";

/** How often the accepted site and the kernel's tables are looked at for services that came or went. */
const LOOK_EVERY = seconds(1);
const REPORT_EVERY = seconds(1);
/** The parent died: what there is goes out, and nobody waits longer. */
const ORPHAN_FLUSH = ms(300);

/**
 * Replication of connections. It asks nobody for anything: which services there are and how their connections
 * are marked it reads from the accepted site and the kernel's tables, which router is active here it hears from the
 * redundancy process. So it works on while the brain is gone.
 */
runChild(async (context) => {
  const { clock, log, node, runtime } = context;
  const refused = preferThread(NICE);
  if (refused !== undefined) log.info({ event: "flows.not_preferred", reason: refused.message });
  const accepted = new AcceptedSite(context.state);
  let changedAt = await accepted.changedAt();
  // What somebody edits just now is not what the other processes run.
  let { site } = (await accepted.read()) ?? (await loadSite(context.site));
  const { flows: settings } = site;
  if (settings === undefined)
    throw new OperationalError("CONFLICT", "the site file has no `flows`: nothing is to be replicated");
  const address = site.nodes[node]?.address;
  if (address === undefined) throw new OperationalError("NOT_FOUND", `the site has no node "${node}"`);
  let report = (): void => undefined;
  const brain = new LinkClient<FlowsToBrain, BrainToFlows>({
    path: clientsSocket(runtime),
    clock,
    decode: decodeFromBrain,
    message: () => affinity.again(),
    // It asks by itself.
    up: () => undefined,
    down: () => undefined,
  });
  const affinity: AffinityService = AffinityService.open({
    clock,
    log,
    reachable: () => service.reachable(),
    tell: (peer, entries) => service.tellClients(peer, entries),
    remember: (message) => brain.send(message),
  });
  affinity.configure(site);
  const service: FlowsService = FlowsService.open({
    clock,
    log,
    site: site.site,
    node,
    instance: randomBytes(8).toString("hex"),
    listen: { address, port: settings.port },
    peers: peersOf(site, node),
    delay: settings.delay,
    changed: () => report(),
    affinity,
    tls: await readSiteKeys(context.site, settings.keys, node),
  });

  const installed = InstalledServices.open(clock);
  let told = "";
  let keptPort = settings.port;
  let peers = JSON.stringify([peersOf(site, node), settings.delay]);
  const reconfigure = (): void => {
    if (site.flows === undefined) return; // this process is about to be ended
    const { delay, port } = site.flows;
    const next = JSON.stringify([peersOf(site, node), delay]);
    if (next !== peers) {
      peers = next;
      service.reconfigure(peersOf(site, node), delay);
      log.info({ event: "flows.reconfigured", peers: peersOf(site, node).map((peer) => peer.node), delay });
    }
    if (port === keptPort) return;
    keptPort = port;
    const reason = `this process goes on listening on port ${settings.port}; replace it with: nines upgrade`;
    log.warn({ event: "flows.port_kept", reason });
  };
  const look = async (): Promise<void> => {
    const now = await accepted.changedAt();
    const next = now === changedAt ? undefined : await accepted.read();
    if (next !== undefined) {
      changedAt = now;
      site = next.site;
      reconfigure();
      affinity.configure(site);
    }
    const services: readonly ReplicatedService[] = replicatedServices(site, await installed.ids());
    const text = JSON.stringify(services);
    if (text === told) return;
    told = text;
    service.configure(services);
    log.info({ event: "flows.services", services: services.map(({ name }) => name) });
  };
  const keepLooking = (): void => {
    look()
      .catch((error: unknown) => log.warn({ event: "flows.look_failed", reason: messageOf(error) }))
      .finally(() => clock.setTimer(addTime(clock.monotonic(), LOOK_EVERY), keepLooking));
  };

  let active: string | undefined;
  const link = new LinkClient<FlowsToRedundancy, RedundancyToBrain>({
    path: join(runtime, "redundancy.sock"),
    clock,
    decode: decodeRedundancy,
    message: (message) => {
      if (message.type === "flush") {
        const { id, to, within } = message;
        void service.flush(ms(within), to).then((missing) => {
          link.send({ type: "flushed", id, ok: missing === "", reason: missing });
        });
        return;
      }
      if (message.type !== "status") return;
      const now = message.routers.filter(({ state }) => state === "active").map(({ router }) => router);
      if (now.join() === active) return;
      active = now.join();
      service.setActive(new Set(now));
      log.info({ event: "flows.active", routers: now });
    },
    up: () => report(),
    // What was active stays so until the process says otherwise: its addresses stay as well.
    down: () => undefined,
  });
  report = () => void link.send({ type: "flows", report: reportOf(service, affinity) });
  const keepReporting = (): void => {
    report();
    clock.setTimer(addTime(clock.monotonic(), REPORT_EVERY), keepReporting);
  };
  link.start();
  brain.start();
  context.onStop(async (mode) => {
    if (mode === "orphaned") await service.flush(ORPHAN_FLUSH);
    link.stop();
    brain.stop();
    affinity.close();
    await service.close();
    installed.close();
  });
  keepLooking();
  keepReporting();
  context.ready();
});

function reportOf(service: FlowsService, affinity: AffinityService): FlowsReport {
  const { peers, flows, counters } = service.status;
  return {
    peers: Object.entries(peers).map(([name, peer]) => ({
      node: name,
      connected: peer.connected,
      sentAll: peer.sentAll,
      receivedAll: peer.receivedAll,
      unacknowledged: peer.unacknowledged,
      lag: peer.lag,
      snapshots: peer.snapshots,
      resumes: peer.resumes,
      entriesSent: peer.entriesSent,
      entriesReceived: peer.entriesReceived,
      bytesSent: peer.bytesSent,
      bytesReceived: peer.bytesReceived,
    })),
    own: flows.own,
    others: flows.others,
    counters: { ...counters, ...affinity.counters },
  };
}
