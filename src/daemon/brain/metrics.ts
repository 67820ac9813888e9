import type { NodeStatus } from "../../contracts/api.ts";
import type { FlowsReport } from "../../contracts/flows.ts";
import type { MetricSample } from "../../contracts/metrics.ts";

/** From the same facts as `nines status`; rooms add their own. `forwarder`: its counters; `memory`: resident bytes of the brain. */
export function metricSamples(
  status: NodeStatus,
  forwarder: Readonly<Record<string, number>>,
  memory: number,
): MetricSample[] {
  const samples: MetricSample[] = [];
  type Labels = Readonly<Record<string, string>>;
  const gauge = (name: string, help: string, labels: Labels, value: number): void => {
    samples.push({ name, help, kind: "gauge", labels, value });
  };
  const counter = (name: string, help: string, labels: Labels, value: number): void => {
    samples.push({ name, help, kind: "counter", labels, value });
  };
  gauge("nines_daemon_build_info", "The version that runs.", { version: status.version }, 1);
  gauge("nines_daemon_memory_bytes", "Resident memory of the brain.", {}, memory);
  for (const { name, index, phase, restarts } of status.processes) {
    const labels = { process: name, index: String(index) };
    gauge(
      "nines_daemon_process_running",
      "1 while the process is ready.",
      labels,
      phase === "running" ? 1 : 0,
    );
    counter("nines_daemon_restarts_total", "Restarts and replacements of the process.", labels, restarts);
  }
  for (const { name, severity, about } of status.alarms)
    gauge("nines_daemon_alarm_active", "1 while the alarm is raised.", { alarm: name, severity, about }, 1);
  if (status.lastReload)
    gauge(
      "nines_daemon_reload_success",
      "1 where the last reload was accepted.",
      {},
      status.lastReload.ok ? 1 : 0,
    );
  gauge(
    "nines_redundancy_connected",
    "1 while the redundancy process answers.",
    {},
    status.redundancy.connected ? 1 : 0,
  );
  for (const [event, value] of Object.entries(status.redundancy.counters))
    counter(
      "nines_redundancy_events_total",
      "What the redundancy process counted, by kind.",
      { event: snake(event) },
      value,
    );
  for (const router of status.routers) {
    const labels = { router: router.router };
    gauge(
      "nines_redundancy_router_active",
      "1 while this node is Active.",
      labels,
      router.state === "active" ? 1 : 0,
    );
    gauge("nines_redundancy_router_priority", "The effective priority.", labels, router.priority);
    counter("nines_redundancy_transitions_total", "Changes of state.", labels, router.transitions);
    for (const state of ["initialize", "backup", "active", "fault"] as const)
      gauge(
        "nines_redundancy_router_state",
        "1 for the present state.",
        { ...labels, state },
        router.state === state ? 1 : 0,
      );
    for (const [event, value] of Object.entries(router.counters))
      counter(
        "nines_redundancy_router_events_total",
        "What a router counted, by kind.",
        { ...labels, event: snake(event) },
        value,
      );
  }
  for (const pool of status.pools) {
    gauge("nines_health_pool_healthy", "Healthy backends of the pool.", { pool: pool.pool }, pool.healthy);
    gauge("nines_health_pool_backends", "Backends of the pool.", { pool: pool.pool }, pool.total);
    for (const each of pool.backends) {
      const labels = { pool: each.pool, backend: each.backend };
      gauge("nines_health_backend_up", "1 while the checks are good.", labels, each.health === "up" ? 1 : 0);
      gauge("nines_health_backend_weight", "Share of new connections.", labels, each.effectiveWeight);
    }
  }
  gauge(
    "nines_forwarding_good",
    "1 while the kernel's tables are as they should be.",
    {},
    status.forwarding.good ? 1 : 0,
  );
  for (const [event, value] of Object.entries(forwarder))
    counter(
      "nines_forwarding_events_total",
      "What the forwarder did, by kind.",
      { event: snake(event) },
      value,
    );
  if (status.flows !== undefined) samples.push(...flowsSamples(status.flows));
  return samples;
}

function flowsSamples(flows: FlowsReport): MetricSample[] {
  const samples: MetricSample[] = [];
  const add = (
    kind: MetricSample["kind"],
    name: string,
    help: string,
    labels: MetricSample["labels"],
    value: number,
  ): void => void samples.push({ name, help, kind, labels, value });
  const entries = "Connections in the replicated table, by whose they are.";
  add("gauge", "nines_flows_entries", entries, { owner: "self" }, flows.own);
  add("gauge", "nines_flows_entries", entries, { owner: "others" }, flows.others);
  for (const peer of flows.peers) {
    const labels = { peer: peer.node };
    const inSync = peer.connected && peer.sentAll && peer.receivedAll;
    add("gauge", "nines_flows_peer_synced", "1 while both have each other's.", labels, inSync ? 1 : 0);
    add("gauge", "nines_flows_lag_seconds", "From a change to its acknowledgement.", labels, peer.lag / 1000);
    const waiting = "Entries that the peer has not acknowledged.";
    add("gauge", "nines_flows_unacknowledged_entries", waiting, labels, peer.unacknowledged);
    const resyncs = "Times that a peer was told everything anew, or gone on from where it was.";
    add("counter", "nines_flows_resyncs_total", resyncs, { ...labels, kind: "snapshot" }, peer.snapshots);
    add("counter", "nines_flows_resyncs_total", resyncs, { ...labels, kind: "resume" }, peer.resumes);
    for (const [direction, moved, bytes] of [
      ["sent", peer.entriesSent, peer.bytesSent],
      ["received", peer.entriesReceived, peer.bytesReceived],
    ] as const) {
      const which = { ...labels, direction };
      add("counter", "nines_flows_entries_total", "Entries on the channel.", which, moved);
      add("counter", "nines_flows_bytes_total", "Bytes on the channel, before TLS.", which, bytes);
    }
  }
  for (const [event, value] of Object.entries(flows.counters))
    add(
      "counter",
      "nines_flows_events_total",
      "What replication did, by kind.",
      { event: snake(event) },
      value,
    );
  return samples;
}

const snake = (text: string): string =>
  text
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll(/[^a-zA-Z0-9]+/g, "_")
    .toLowerCase();
