import { ms } from "../base/time.ts";
import { formatDuration } from "../base/units.ts";
import type { NodeStatus } from "../contracts/api.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { FlowsPeer, FlowsReport } from "../contracts/flows.ts";
import type { RouterStatus } from "../contracts/redundancy.ts";
import { type Colour, type Paint, table } from "./paint.ts";

/** `850ms`, `12s`, `4m`, `3h`, `9d`: one unit, rounded down. */
export function rough(span: number): string {
  const units: [number, string][] = [
    [86_400_000, "d"],
    [3_600_000, "h"],
    [60_000, "m"],
    [1000, "s"],
  ];
  for (const [size, unit] of units)
    if (span >= 2 * size || (unit === "s" && span >= size)) return `${Math.floor(span / size)}${unit}`;
  return formatDuration(ms(Math.round(span)));
}

const stateColour: Readonly<Record<RouterStatus["state"], Colour>> = {
  active: "green",
  backup: "cyan",
  fault: "red",
  initialize: "yellow",
};

/** `nines status` for people. */
export function statusText(status: NodeStatus, paint: Paint): string {
  const lines: string[] = [];
  const section = (title: string, rows: string[][]): void => {
    if (rows.length > 1) lines.push("", paint("bold", title), ...table(rows, "  "));
  };
  const head = (...cells: string[]): string[] => cells.map((cell) => paint("dim", cell));
  lines.push(
    `${paint("bold", status.node)} of site ${paint("bold", status.site)}, nines ${status.version}, site file ${status.siteFile} (${status.digest.slice(0, 12)})`,
  );
  for (const alarm of status.alarms) {
    const label = alarm.severity === "critical" ? paint("red", "CRITICAL") : paint("yellow", "warning");
    lines.push(`${label} ${alarm.about === "" ? "" : `${alarm.about}: `}${alarm.message}`);
  }
  section("Virtual routers", [
    head("router", "state", "for", "priority", "active node", "addresses", "reason"),
    ...status.routers.map((router) => routerRow(router, status.node, paint)),
  ]);
  section("Connections", [
    head("with node", "in sync", "not acknowledged", "lag", "own", "of others", "sent", "received"),
    ...(status.flows?.peers ?? []).map((peer) => flowsRow(peer, status.flows, paint)),
  ]);
  section("Services", [
    head("service", "listen", "router", "pool", "here"),
    ...status.services.map(({ service, listen, router, pool, kind, here }) => [
      service,
      listen.join(" "),
      router || "-",
      pool ?? kind,
      here ? paint("green", "yes") : paint("dim", "no"),
    ]),
  ]);
  section("Backends", [
    head("backend", "health", "admin", "weight", "for", "reason"),
    ...status.pools.flatMap((pool) => pool.backends.map((backend) => backendRow(backend, paint))),
  ]);
  if (status.proxy !== undefined) {
    section("Proxy workers", [
      head("worker", "state", "pid", "connections", "in flight"),
      ...status.proxy.workers.map(({ index, state, pid, connections, requests }) => [
        state === "spare" ? "-" : String(index),
        paint(state === "serving" ? "green" : "yellow", state),
        String(pid),
        String(connections),
        String(requests),
      ]),
    ]);
    for (const { backend, workers } of status.proxy.ejected)
      lines.push(paint("yellow", `  ${backend} is ejected by ${workers} of the workers`));
  }
  section("Processes", [
    head("process", "phase", "pid", "restarts"),
    ...status.processes.map(({ name, index, phase, pid, restarts }) => [
      index > 0 ? `${name}.${index}` : name,
      paint(phase === "running" ? "green" : "yellow", phase),
      String(pid ?? "-"),
      String(restarts),
    ]),
  ]);
  if (status.lastReload?.ok === false)
    lines.push(
      "",
      paint("red", `The last reload (${status.lastReload.at}) was refused:`),
      ...status.lastReload.errors.map((each) => `  ${each}`),
    );
  return lines.join("\n");
}

function routerRow(router: RouterStatus, node: string, paint: Paint): string[] {
  const active = router.state === "active" ? node : (router.active?.node ?? router.active?.address ?? "-");
  const lowered = router.priority === router.basePriority ? "" : ` (of ${router.basePriority})`;
  return [
    router.router,
    paint(stateColour[router.state], router.state),
    rough(router.since),
    `${router.priority}${lowered}`,
    active,
    router.addresses.join(" ") || "-",
    router.waiting === undefined ? router.reason : `${router.reason}; ${paint("yellow", router.waiting)}`,
  ];
}

function flowsRow(peer: FlowsPeer, flows: FlowsReport | undefined, paint: Paint): string[] {
  const missing = !peer.connected
    ? "not connected"
    : !peer.receivedAll
      ? "receiving"
      : peer.sentAll
        ? undefined
        : "sending";
  return [
    peer.node,
    missing === undefined ? paint("green", "yes") : paint("yellow", missing),
    String(peer.unacknowledged),
    `${peer.lag.toFixed(1)}ms`,
    String(flows?.own ?? 0),
    String(flows?.others ?? 0),
    String(peer.entriesSent),
    String(peer.entriesReceived),
  ];
}

function backendRow(backend: BackendStatus, paint: Paint): string[] {
  const colour: Colour = backend.health === "up" ? "green" : backend.health === "down" ? "red" : "yellow";
  return [
    `${backend.pool}/${backend.backend}`,
    paint(colour, backend.health),
    backend.admin === "enabled" ? "-" : paint("yellow", backend.admin),
    String(backend.effectiveWeight),
    rough(backend.since),
    backend.reason,
  ];
}
