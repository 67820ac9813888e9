import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { ip } from "../../base/addresses.ts";
import type { LogFields } from "../../base/log.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { ms } from "../../base/time.ts";
import { type SiteInput, siteSchema } from "../../config/schema/site.ts";
import type { AdminState, BackendStatus, HealthState } from "../../contracts/forwarding.ts";
import type { RouterStatus } from "../../contracts/redundancy.ts";
import type { Site } from "../../contracts/site.ts";
import { planFor } from "../../redundancy/plan.ts";
import type { ChildContext } from "../child.ts";
import type { ChildMessage } from "../messages-parent.ts";
import type { BrainPorts, SiteFile } from "../ports.ts";

export const pairInput: SiteInput = {
  site: "shop",
  nodes: { a: { address: "10.0.0.2" }, b: { address: "10.0.0.3" } },
  virtualRouters: {
    edge: {
      priorities: { a: 110, b: 100 },
      interval: "100ms",
      track: [{ pool: "apps", atLeast: 1, lower: 50 }],
      members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] }],
    },
  },
  pools: { apps: { backends: { one: "10.0.1.1:80", two: "10.0.1.2:80" }, check: { tcp: true } } },
  services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
};

export const site = (input: SiteInput = pairInput): Site => siteSchema.parse(input);

export const backend = (
  name: string,
  health: HealthState,
  more: Partial<BackendStatus> = {},
): BackendStatus => ({
  pool: "apps",
  backend: name,
  health,
  admin: "enabled",
  reason: health === "up" ? "connected in 1 ms" : "connection refused",
  effectiveWeight: health === "up" ? 1 : 0,
  since: ms(5000),
  ...more,
});

export const router = (more: Partial<RouterStatus> = {}): RouterStatus => ({
  router: "edge",
  state: "backup",
  reason: "b advertises priority 120",
  priority: 110,
  basePriority: 110,
  failing: [],
  active: { node: "b", address: ip("10.0.0.3"), priority: 120 },
  addresses: [],
  transitions: 1,
  since: ms(61_000),
  counters: { advertisementsReceived: 7 },
  ...more,
});

export interface FakeContext extends ChildContext {
  readonly logged: LogFields[];
  readonly told: ChildMessage[];
}

const directories: string[] = [];
afterAll(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

export function fakeContext(more: Partial<ChildContext> = {}): FakeContext {
  const directory = mkdtempSync(join(tmpdir(), "nines-brain-"));
  directories.push(directory);
  const file = join(directory, "site.json");
  writeFileSync(file, JSON.stringify(pairInput));
  const logged: LogFields[] = [];
  const told: ChildMessage[] = [];
  const note = (fields: LogFields): void => void logged.push(fields);
  return {
    name: "brain",
    index: 0,
    site: file,
    node: "a",
    runtime: directory,
    state: join(directory, "state"),
    successor: false,
    lastGood: false,
    listeners: [],
    clock: new SystemClock(),
    log: { debug: note, info: note, warn: note, error: note },
    ready: () => {},
    onStop: () => {},
    onReload: () => {},
    onListener: () => {},
    taken: undefined,
    onProcesses: () => {},
    tell: (message) => void told.push(message),
    logged,
    told,
    ...more,
  };
}

/** Rooms that do what a test says; `backends` may be changed on the way. */
export class FakeRooms {
  backends: BackendStatus[] = [backend("one", "up"), backend("two", "up")];
  applied = 0;
  removed: boolean | undefined;
  changed: () => void = () => {};
  next: () => Promise<SiteFile> = () => Promise.resolve({ site: site(), digest: "d1", warnings: [] });

  ports(): BrainPorts {
    return {
      version: "0.0.0",
      loadSite: () => this.next(),
      plan: planFor,
      differences: () => ["pools.apps: backend three added"],
      children: () => [],
      health: (_context, changed) => {
        this.changed = changed;
        return {
          update: () => {},
          stop: () => {},
          statuses: () => this.backends,
          setAdmin: (_pool: string, name: string, admin: AdminState) => {
            this.backends = this.backends.map((each) => (each.backend === name ? { ...each, admin } : each));
            return Promise.resolve();
          },
          metrics: () => [],
        };
      },
      forwarder: () => ({
        apply: () => void this.applied++,
        problem: () => "",
        explain: () => [],
        metrics: () => Promise.resolve([]),
        counters: () => ({}),
        kill: () => Promise.resolve(0),
        stop: (remove) => {
          this.removed = remove;
          return Promise.resolve();
        },
      }),
    };
  }
}
