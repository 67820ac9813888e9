import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ip } from "../base/addresses.ts";
import { ms } from "../base/time.ts";
import { VirtualClock } from "../base/virtual-clock.ts";
import type { AdminState, BackendStatus, HealthState } from "../contracts/forwarding.ts";
import type { Site } from "../contracts/site.ts";
import type { NftChange } from "../linux/nftables/diff.ts";
import { NftablesService } from "../linux/nftables/service.ts";
import type { ElementRead } from "../linux/nftables/wire-objects.ts";
import type { FlowSelector } from "./ports.ts";
import { Forwarder } from "./service.ts";
import { makeSite as siteWith } from "./testing/inputs.ts";

const silent = (): void => undefined;
const log = { debug: silent, info: silent, warn: silent, error: silent };
const turns = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await Promise.resolve();
};
const makeSite = (
  backends: Record<string, string> = { b1: "10.2.0.11:53", b2: "10.2.0.12:53" },
  services: readonly string[] = ["dns"],
  forward: Readonly<Record<string, unknown>> = {},
): Site =>
  siteWith({
    pools: { apps: { backends } },
    services: Object.fromEntries(
      services.map((name, i) => [
        name,
        { on: "edge", listen: `10.0.0.1:${53 + i}/udp`, forward: { pool: "apps", ...forward } },
      ]),
    ),
  });
const status = (backend: string, health: HealthState, admin: AdminState = "enabled"): BackendStatus => ({
  pool: "apps",
  backend,
  health,
  admin,
  reason: "set by the test",
  effectiveWeight: 1,
  since: ms(0),
});
const down = (...names: string[]) => names.map((one) => status(one, "down"));

let clock: VirtualClock;
let applied: (readonly NftChange[])[];
let reads: number;
let cuts: FlowSelector[];
let cutFails: boolean;
let clients: ElementRead[];
/** What reaches the kernel, as it comes. */
let order: string[];
let onForget: () => void;
let forwarder: Forwarder;

const isAffinity = (name: string): boolean => name.startsWith("affinity-");
function take(changes: readonly NftChange[]): void {
  if (changes.length > 0) applied.push(changes);
  for (const one of changes) {
    if (one.op !== "delete-elements") continue;
    if (!isAffinity(one.set.name)) {
      order.push("tables");
      continue;
    }
    const gone = new Set(one.elements.map((each) => each.key.join(".")));
    clients = clients.filter((each) => !gone.has(each.key.join(".")));
    order.push("forget");
    onForget();
  }
}

beforeEach(async () => {
  clock = new VirtualClock(1000);
  [applied, cuts, reads, cutFails] = [[], [], 0, false];
  [clients, order, onForget] = [[], [], silent];
  const kernel = {
    port: 7,
    apply: (changes: readonly NftChange[]) => {
      take(changes);
      return Promise.resolve();
    },
    read: () => Promise.resolve(undefined),
    generation: () => Promise.resolve(++reads),
    elements: (_place: unknown, name: string) => Promise.resolve(isAffinity(name) ? clients : []),
    close: silent,
  };
  vi.spyOn(NftablesService, "open").mockReturnValue(kernel as unknown as NftablesService);
  forwarder = await Forwarder.open({
    clock,
    log,
    node: "lb1",
    ownTables: false,
    prefixes: () => [],
    settings: () => [],
    flows: {
      cut: (which) => {
        if (cutFails) return Promise.reject(new Error("no room"));
        cuts.push(...which);
        order.push("cut");
        return Promise.resolve(which.length);
      },
      count: () => Promise.resolve([]),
    },
  });
});
afterEach(async () => {
  await forwarder.stop(false);
  vi.restoreAllMocks();
});

const apply = async (site: Site, statuses: readonly BackendStatus[]): Promise<void> => {
  forwarder.apply(site, statuses);
  await forwarder.settled();
};
const pass = async (span: number): Promise<void> => {
  for (let i = 0; i < span; i++) {
    clock.advance(ms(1));
    await turns();
  }
};
const share = (backend: string): number | undefined =>
  forwarder.explain()[0]?.backends.find((one) => one.backend === backend)?.share;

describe("the forwarder's turns", () => {
  it("do not lose a change that comes just before a check", async () => {
    const site = makeSite();
    await apply(site, []);
    await pass(498);
    forwarder.apply(site, down("b1"));
    await pass(10);
    expect(share("b1")).toBe(0);
  });
  it("check at their pace, however often something changes", async () => {
    const site = makeSite();
    await apply(site, []);
    const before = reads;
    applied = [];
    for (let i = 0; i < 20; i++) {
      forwarder.apply(site, i % 2 === 0 ? down("b1") : []);
      await pass(100);
    }
    // One generation for each change, two or more for each check: asked, and after the repair.
    expect(applied.length).toBeGreaterThanOrEqual(20);
    expect(reads - before).toBeGreaterThanOrEqual(20 + 3);
  });
});

describe("UDP connections that nobody else ends", () => {
  const to = (address: string) => expect.objectContaining({ backend: ip(address) }) as FlowSelector;
  it("go when a backend dies while it drains, and not before", async () => {
    const site = makeSite();
    await apply(site, [status("b1", "up", "drain")]);
    expect(cuts).toEqual([]);
    await apply(site, [status("b1", "down", "drain")]);
    expect(cuts).toEqual([to("10.2.0.11")]);
  });
  it("are cut at the next check where the connection table had no room", async () => {
    const site = makeSite();
    await apply(site, []);
    cutFails = true;
    await apply(site, down("b1"));
    cutFails = false;
    await pass(600);
    expect(cuts).toEqual([to("10.2.0.11")]);
    await pass(600);
    expect(cuts.length).toBe(1);
  });
  it("stay where the backend is back before they could be cut", async () => {
    const site = makeSite();
    await apply(site, []);
    cutFails = true;
    await apply(site, down("b1"));
    cutFails = false;
    await apply(site, [status("b1", "up")]);
    await pass(600);
    expect(cuts).toEqual([]);
  });
  it("of a backend that died while no process ran go at the first convergence", async () => {
    await apply(makeSite(), down("b2"));
    expect(cuts).toEqual([to("10.2.0.12")]);
  });
  it("go with the address that a backend had, and the new address is not taken for healthy", async () => {
    await apply(makeSite(), [status("b1", "up")]);
    await apply(makeSite({ b1: "10.2.0.21:53", b2: "10.2.0.12:53" }), []);
    expect(cuts).toEqual([to("10.2.0.11")]);
    const reason = forwarder.explain()[0]?.backends.find((one) => one.backend === "b1")?.reason;
    expect(reason).toBe("health unknown, given a chance");
  });
});

describe("numbers of services", () => {
  it("are not given again while connections may still carry them", async () => {
    await apply(makeSite(undefined, ["a", "b"]), []);
    expect([...forwarder.serviceIds()]).toEqual([
      ["a", 1],
      ["b", 2],
    ]);
    await apply(makeSite(undefined, ["a"]), []);
    await apply(makeSite(undefined, ["a", "c"]), []);
    expect(forwarder.serviceIds().get("c")).toBe(3);
  });
});

describe("clients that have to be forgotten", () => {
  it("wait for the connections that are cut, and let changes of backends by", async () => {
    const site = makeSite({ b1: "10.2.0.11:53", b2: "10.2.0.12:53", b3: "10.2.0.13:53" }, ["dns"], {
      affinity: { timeout: "30m" },
    });
    await apply(site, []);
    clients = Array.from({ length: 3500 }, (_, i) => ({
      key: Uint8Array.of(10, 9, i >> 8, i & 0xff),
      data: Uint8Array.of(10, 2, 0, 11 + (i % 2), 0, 53),
    }));
    order = [];
    onForget = () => {
      onForget = silent;
      forwarder.apply(site, down("b1", "b2"));
      clock.advance(ms(5));
    };
    await apply(site, down("b1"));
    expect(order).toEqual(["tables", "cut", "forget", "tables", "cut", "forget", "forget", "forget"]);
    expect(clients).toEqual([]);
    expect(forwarder.counters()).toMatchObject({ clientsForgotten: 3500 });
  });
  it("are not learnt again from another node, whose portions let changes by as well", async () => {
    const site = makeSite(undefined, ["dns"], { affinity: { timeout: "30m" } });
    await apply(site, []);
    forwarder.remember(
      Array.from({ length: 2500 }, (_, i) => ({
        service: "dns",
        source: ip(`10.9.${i >> 8}.${i & 0xff}`),
        backend: ip("10.2.0.11"),
        port: 53,
        expires: ms(60_000),
      })),
    );
    clock.advance(ms(0));
    forwarder.apply(site, down("b1"));
    await forwarder.settled();
    expect(forwarder.counters()).toMatchObject({ clientsLearned: 1000, clientsRefused: 1500 });
  });
});
