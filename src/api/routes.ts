import type { z } from "zod";
import { OperationalError } from "../base/errors.ts";
import type {
  BackendRequest,
  Explanation,
  NodeAdminStatus,
  NodeRequest,
  NodeStatus,
  ReloadOutcome,
  SwitchoverOutcome,
  SwitchoverRequest,
} from "../contracts/api.ts";
import type { MetricSample } from "../contracts/metrics.ts";
import { backendRequest, emptyRequest, nodeRequest, switchoverRequest } from "./requests.ts";

/** What the API asks of the node. Failures are OperationalErrors. */
export interface ApiPorts {
  status(): NodeStatus;
  /** `router`, or `pool` and `backend`; neither explains every router. */
  explain(about: { router?: string; pool?: string; backend?: string }): readonly Explanation[];
  switchover(request: SwitchoverRequest): Promise<SwitchoverOutcome>;
  setBackend(request: BackendRequest): Promise<NodeStatus["pools"][number]["backends"][number]>;
  setNode(request: NodeRequest): Promise<NodeAdminStatus>;
  reload(): Promise<ReloadOutcome>;
  upgrade(): void;
  metrics(): Promise<readonly MetricSample[]>;
}

export interface Route {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** For the reference; one sentence. */
  readonly about: string;
  readonly body?: z.ZodType;
  /** Parameters of the query, for GET. */
  readonly query?: readonly string[];
  handle(ports: ApiPorts, input: unknown): unknown;
}

const route = <Body extends z.ZodType>(
  path: string,
  about: string,
  body: Body,
  handle: (ports: ApiPorts, input: z.output<Body>) => unknown,
): Route => ({
  method: "POST",
  path,
  about,
  body,
  handle: (ports, input) => handle(ports, input as z.output<Body>),
});

/** Everything but /metrics. docs/reference/api.md lists these; a test holds the two together. */
export const ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/v1/status",
    about: "Everything that is known of this node (NodeStatus).",
    handle: (ports) => ports.status(),
  },
  {
    method: "GET",
    path: "/v1/explain",
    about: "Why a router or a backend is as it is, in sentences (a list of Explanation).",
    query: ["router", "pool", "backend"],
    handle: (ports, input) => ports.explain(input as { router?: string; pool?: string; backend?: string }),
  },
  route(
    "/v1/switchover",
    "Moves a virtual router to another node and answers when that has happened (SwitchoverOutcome).",
    switchoverRequest,
    (ports, request) => ports.switchover(request),
  ),
  route(
    "/v1/backends",
    "Drains a backend, takes it out of service or brings it back (its BackendStatus).",
    backendRequest,
    (ports, request) => ports.setBackend(request),
  ),
  route(
    "/v1/node",
    "Takes the node out for maintenance, its virtual routers handed over, or brings it back; answers at once, and /v1/status tells how far it is (NodeAdminStatus).",
    nodeRequest,
    (ports, request) => ports.setNode(request),
  ),
  route(
    "/v1/reload",
    "Reads the site file anew; one with mistakes changes nothing (ReloadOutcome).",
    emptyRequest,
    (ports) => ports.reload(),
  ),
  route(
    "/v1/upgrade",
    "Replaces the node's processes one by one by the program that is on disk now.",
    emptyRequest,
    (ports) => {
      ports.upgrade();
      return {};
    },
  ),
];

export function findRoute(method: string, path: string): Route {
  const there = ROUTES.filter((each) => each.path === path);
  const found = there.find((each) => each.method === method);
  if (found) return found;
  const instead =
    there.length > 0
      ? `it takes ${there.map((each) => each.method).join(", ")}`
      : "GET /v1/status is the start";
  throw new OperationalError("NOT_FOUND", `there is no ${method} ${path}; ${instead}`);
}
