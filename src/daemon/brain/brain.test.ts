import { existsSync, rmSync } from "node:fs";
import type { Server } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ConfigError } from "../../base/errors.ts";
import { fail, ok } from "../../base/result.ts";
import type { NodeStatus } from "../../contracts/api.ts";
import type {
  BrainToRedundancy,
  RedundancyToBrain,
  RouterState,
  RouterStatus,
} from "../../contracts/redundancy.ts";
import { askNode } from "../../api/client.ts";
import { type JsonLink, serveLinks } from "../link.ts";
import {
  type FakeContext,
  FakeRooms,
  backend,
  fakeContext,
  pairInput,
  router,
  site,
} from "../testing/fakes.ts";
import { Brain } from "./brain.ts";

let context: FakeContext;
let rooms: FakeRooms;
let brain: Brain | undefined;
let server: Server | undefined;
let link: JsonLink<RedundancyToBrain, BrainToRedundancy> | undefined;
let heard: BrainToRedundancy[];

beforeEach(() => {
  context = fakeContext();
  rooms = new FakeRooms();
  heard = [];
  link = undefined;
});
afterEach(async () => {
  await brain?.stop("release");
  brain = undefined;
  link?.close("test");
  server?.close();
  rmSync(context.runtime, { recursive: true, force: true });
});

async function start(): Promise<void> {
  brain = await Brain.start(context, rooms.ports());
}

/** A redundancy process that answers what a test wants. */
async function redundancy(answer: (message: BrainToRedundancy) => void = () => {}): Promise<void> {
  server = await serveLinks<RedundancyToBrain, BrainToRedundancy>(
    join(context.runtime, "redundancy.sock"),
    (made) => {
      link = made;
      return {
        decode: (value) => (typeof value === "object" ? ok(value as BrainToRedundancy) : fail("?")),
        message: (message) => {
          heard.push(message);
          answer(message);
        },
        closed: () => {},
      };
    },
  );
}

const ask = <T>(runtime: string, method: "GET" | "POST", path: string, body?: unknown): Promise<T> =>
  askNode<T>(join(runtime, "control.sock"), method, path, body);
const status = (): Promise<NodeStatus> => ask<NodeStatus>(context.runtime, "GET", "/v1/status");

describe("the brain", () => {
  it("asks for the processes that the site needs and tells redundancy its plan and facts", async () => {
    await redundancy();
    await start();
    expect(context.told).toContainEqual({
      type: "children",
      wishes: [{ name: "redundancy", count: 1, listen: [] }],
    });
    await vi.waitFor(() =>
      expect(heard.map((each) => each.type)).toEqual(expect.arrayContaining(["plan", "facts"])),
    );
    rooms.backends = [backend("one", "down"), backend("two", "down")];
    rooms.changed();
    await vi.waitFor(() =>
      expect(heard.at(-1)).toEqual({
        type: "facts",
        facts: [{ name: "pool apps at least 1", good: false, reason: "0 healthy, 1 needed" }],
      }),
    );
  });

  it("answers status from what the rooms and redundancy say, alarms included", async () => {
    await redundancy();
    await start();
    await vi.waitFor(() => expect(link).toBeDefined());
    link?.send({ type: "status", routers: [router({ state: "active" })], counters: { lateTimers: 1 } });
    await vi.waitFor(async () => expect((await status()).redundancy.connected).toBe(true));
    const now = await status();
    expect(now.alarms).toEqual([]);
    expect(now.services).toEqual([
      {
        service: "web",
        router: "edge",
        listen: ["10.0.0.1:80/tcp"],
        kind: "forward",
        pool: "apps",
        here: true,
      },
    ]);
    link?.send({ type: "event", event: "redundancy.site_differs", fields: { node: "b", digest: "d2" } });
    await vi.waitFor(async () =>
      expect((await status()).alarms.map((each) => each.name)).toEqual(["site_differs"]),
    );
    link?.send({ type: "event", event: "redundancy.site_agrees", fields: { node: "b" } });
    await vi.waitFor(async () => expect((await status()).alarms).toEqual([]));
    await vi.waitFor(() => expect(context.logged.at(-1)?.event).toBe("alarm.cleared"));
    expect(context.logged.map((each) => each.event)).toContain("alarm.raised");
  });

  it("moves a router and says who serves it, or why not", async () => {
    await redundancy((message) => {
      if (message.type !== "switchover") return;
      if (message.to === undefined) link?.send({ type: "status", routers: [router()], counters: {} });
      const refused = { type: "result" as const, id: message.id, ok: false, error: "a is not heard" };
      link?.send(message.to === undefined ? { type: "result", id: message.id, ok: true } : refused);
    });
    await start();
    await vi.waitFor(() => expect(link).toBeDefined());
    const outcome = await ask<{ active: string }>(context.runtime, "POST", "/v1/switchover", {});
    expect(outcome.active).toBe("b");
    const post = (body: unknown) => ask(context.runtime, "POST", "/v1/switchover", body);
    await expect(post({ to: "a" })).rejects.toThrow("a is not heard");
    await expect(post({ to: "c" })).rejects.toThrow("c is no node of edge; its nodes are a, b");
    await expect(post({ router: "other" })).rejects.toThrow("it has edge");
    await expect(post({ nonsense: 1 })).rejects.toThrow("nonsense");
  });

  it("is taken out only where another node takes over; says so in its plan, also after a restart, until it is enabled", async () => {
    let others: RouterStatus["others"] = [];
    const tell = (state: RouterState): void =>
      void link?.send({ type: "status", routers: [router({ state, others })], counters: {} });
    await redundancy((message) => {
      if (message.type !== "switchover") return;
      link?.send({ type: "result", id: message.id, ok: true });
      tell("backup");
    });
    await start();
    await vi.waitFor(() => expect(link).toBeDefined());
    tell("active");
    await vi.waitFor(async () => expect((await status()).routers).toHaveLength(1));
    const set = (state: string, more: object = {}) =>
      ask<NodeStatus["admin"]>(context.runtime, "POST", "/v1/node", { node: "a", state, ...more });
    await expect(set("drain")).rejects.toThrow(/nobody can take over edge: b is not heard \(--force/);
    await expect(set("drain", { node: "b" })).rejects.toThrow(/this is node a/);
    await expect(set("drain", { node: "aa" })).rejects.toThrow(/no node "aa" \(did you mean "a"/);
    await expect(set("gone")).rejects.toThrow(/state/);
    expect((await status()).admin.state).toBe("enabled");

    others = [{ node: "b", state: "backup", priority: 100 }];
    tell("active");
    await vi.waitFor(async () => expect((await status()).routers[0]?.others).toHaveLength(1));
    expect(await set("drain")).toMatchObject({ state: "drain" });
    await vi.waitFor(async () => expect((await status()).admin).toMatchObject({ phase: "done", left: [] }));
    expect(heard.find((each) => each.type === "switchover")).toMatchObject({ router: "edge", to: "b" });
    const planned = () => heard.findLast((each) => each.type === "plan")?.plan.maintenance;
    expect(planned()).toMatch(/an operator has drained this node/);
    expect((await status()).alarms.map(({ name }) => name)).toContain("node_out");

    // Asked again: the node stays out meanwhile.
    heard = [];
    expect(await set("drain")).not.toMatchObject({ phase: "announcing" });
    await vi.waitFor(async () => expect((await status()).admin.phase).toBe("done"));
    expect(heard.filter((each) => each.type === "plan" && each.plan.maintenance === undefined)).toEqual([]);

    await brain?.stop("leave");
    heard = [];
    await start();
    await vi.waitFor(() => expect(planned()).toMatch(/drained/));
    expect((await status()).admin).toMatchObject({ state: "drain", phase: "done" });
    await expect(ask(context.runtime, "POST", "/v1/switchover", { to: "a" })).rejects.toThrow(
      /in maintenance/,
    );
    expect(await set("enabled")).toMatchObject({ state: "enabled" });
    await vi.waitFor(() => {
      expect(heard.findLast((each) => each.type === "plan")).toBeDefined();
      expect(planned()).toBeUndefined();
    });
  });

  it("is taken out by force where nobody takes over, and tells what stays", async () => {
    await redundancy();
    await start();
    await vi.waitFor(() => expect(link).toBeDefined());
    link?.send({ type: "status", routers: [router({ state: "active", others: [] })], counters: {} });
    await vi.waitFor(async () => expect((await status()).routers).toHaveLength(1));
    await ask(context.runtime, "POST", "/v1/node", { node: "a", state: "maintenance", force: true });
    await vi.waitFor(async () =>
      expect((await status()).admin).toMatchObject({
        phase: "done",
        left: ["edge stays here until a healthier node is heard: b is not heard"],
      }),
    );
    expect(heard.some((each) => each.type === "switchover")).toBe(false);
  });

  it("reloads a good file and changes nothing for a bad one", async () => {
    await start();
    const reload = () =>
      ask<{ ok: boolean; changes: string[]; errors: string[] }>(context.runtime, "POST", "/v1/reload", {});
    rooms.next = () => Promise.resolve({ site: site(), digest: "d2", warnings: [] });
    expect(await reload()).toMatchObject({ ok: true, changes: ["pools.apps: backend three added"] });
    expect((await status()).digest).toBe("d2");
    const issue = { file: "site.yaml", line: 3, column: 1, path: "pools", message: "unknown key" };
    rooms.next = () => Promise.reject(new ConfigError([issue]));
    expect(await reload()).toMatchObject({ ok: false, errors: ["site.yaml:3:1: pools: unknown key"] });
    const { node: _, ...others } = { node: 1, ...pairInput, nodes: { z: { address: "10.9.9.9" } } };
    rooms.next = () =>
      Promise.resolve({
        site: site({ ...others, virtualRouters: {}, services: {} }),
        digest: "d3",
        warnings: [],
      });
    expect((await reload()).errors[0]).toContain("no node a");
    const after = await status();
    expect([after.digest, after.alarms.map((each) => each.name)]).toEqual(["d2", ["site_rejected"]]);
    expect(context.told.filter((each) => each.type === "reloading").map((each) => each.done)).toEqual([
      false,
      true,
      false,
      true,
      false,
      true,
    ]);
  });

  it("reads the file once more where somebody asks while it reloads: it may have been edited since", async () => {
    await start();
    const waits: (() => void)[] = [];
    let reads = 0;
    rooms.next = async () => {
      const digest = `edit ${++reads}`;
      await new Promise<void>((resolve) => void waits.push(resolve));
      return { site: site(), digest, warnings: [] };
    };
    const asked = [brain!.reload(), brain!.reload(), brain!.reload()];
    await vi.waitFor(() => expect(waits).toHaveLength(1));
    waits[0]?.();
    await vi.waitFor(() => expect(waits).toHaveLength(2));
    waits[1]?.();
    await Promise.all(asked);
    expect([(await status()).digest, reads]).toEqual(["edit 2", 2]);
  });

  it("drains backends, explains and tells metrics", async () => {
    await start();
    const body = { pool: "apps", backend: "one", state: "drain" };
    expect(await ask(context.runtime, "POST", "/v1/backends", body)).toMatchObject({ admin: "drain" });
    const explain = (query: string) =>
      ask<{ sentences: string[] }[]>(context.runtime, "GET", `/v1/explain?${query}`);
    expect((await explain("pool=apps&backend=one"))[0]?.sentences.join(" ")).toContain(
      "drained by an operator",
    );
    expect((await explain(""))[0]?.sentences[0]).toContain("does not answer");
    await expect(explain("router=nothing")).rejects.toThrow("it has edge");
    await expect(explain("colour=red")).rejects.toThrow("no parameter colour");
    await expect(ask(context.runtime, "GET", "/v2/status")).rejects.toThrow("there is no GET /v2/status");
  });

  it("starts again with the site accepted last where the file has become wrong, but not the first time", async () => {
    await start();
    await brain?.stop("leave");
    expect([rooms.removed, existsSync(join(context.runtime, "control.sock"))]).toEqual([false, false]);
    rooms.next = () =>
      Promise.reject(new ConfigError([{ file: "s", line: 1, column: 1, path: "", message: "empty" }]));
    await expect(start()).rejects.toThrow("empty");
    context = { ...context, successor: true };
    await start();
    expect((await status()).alarms.map((each) => each.name)).toContain("site_rejected");
    await brain?.stop("release");
    expect(rooms.removed).toBe(true);
  });
});
