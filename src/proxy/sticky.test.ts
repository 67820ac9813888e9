import fc from "fast-check";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { routeSchema } from "../config/schema/proxy.ts";
import type { Proxy } from "./proxy.ts";
import { type Sticky, compileSticky, newClient } from "./sticky.ts";
import { ask, cleanUp, siteOf, startAnswering, startProxy } from "./testing/harness.ts";

beforeAll(() => {
  process.env["NINES_TEST_STICKY"] = "0123456789abcdef";
});
afterEach(cleanUp);

const secret = { env: "NINES_TEST_STICKY" };
const parse = (more: object = {}) => {
  const { sticky } = routeSchema.parse({ pool: "apps", sticky: { secret, ...more } });
  if (sticky === undefined) throw new Error("no stickiness");
  return sticky;
};
const compile = (key = "one", more: object = {}): Sticky =>
  compileSticky(parse(more), Buffer.from(key), undefined);
const valueOf = (line: string): string => /=([^;]*);/.exec(line)?.[1] ?? "";

describe("the cookie of stickiness", () => {
  const backend = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}\/[a-z][a-z0-9-]{0,20}$/);

  it("says the same at every node with the secret, and nothing at others", () => {
    fc.assert(
      fc.property(backend, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (id, chance) => {
        const client = newClient({ next: () => chance });
        const value = valueOf(compile().line(id, client, false));
        expect(compile().read(value)).toEqual({ backend: id, client });
        expect(compile("two").read(value)).toBeUndefined();
      }),
    );
  });

  it("of an older version has no client in it, and is understood", () => {
    const value = valueOf(compile().line("apps/a", "abc", false));
    expect(compile().read(value.replace(/\.abc$/, ""))).toEqual({ backend: "apps/a", client: "" });
    expect(compile().read(`${value}.x`)).toEqual({ backend: "apps/a", client: "" });
  });

  it("never throws, and no signature fits another backend", () => {
    const sticky = compile();
    const [a, b] = ["apps/a", "apps/b"].map((id) => valueOf(sticky.line(id, "c", false)).split("."));
    expect(sticky.read([a?.[0], b?.[1], "c"].join("."))).toBeUndefined();
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(sticky.read(text)).toBeUndefined();
      }),
    );
    for (const text of ["", ".", "..", "a.", ".a", "a.b.c.d", "é.é"])
      expect(sticky.read(text)).toBeUndefined();
  });

  it("has the attributes that the site asks for", () => {
    const line = (more: object, https: boolean): string => compile("one", more).line("apps/a", "c", https);
    expect(line({}, false)).toMatch(/^Set-Cookie: nines=[^;]+; Path=\/; HttpOnly; SameSite=Lax$/);
    expect(line({}, true)).toMatch(/; SameSite=Lax; Secure$/);
    expect(line({ cookie: "who", maxAge: "1h", secure: true, sameSite: "none", path: "/x" }, false)).toMatch(
      /^Set-Cookie: who=[^;]+; Path=\/x; HttpOnly; SameSite=None; Max-Age=3600; Secure$/,
    );
  });
});

const NAMES = ["a", "b", "c", "d"] as const;
const report = (proxy: Proxy, backend: string, how: "up" | "down" | "drain" | "maintenance"): void => {
  proxy.backendStatus({
    pool: "apps",
    backend,
    health: how === "down" ? "down" : "up",
    admin: how === "drain" || how === "maintenance" ? how : "enabled",
    reason: "a test",
    effectiveWeight: how === "up" ? 1 : 0,
  });
};

/** Two workers, or nodes, with the same site. */
async function pair(sticky: object, more: object = {}) {
  const backends = await Promise.all(
    NAMES.map((name) => startAnswering(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${name}`)),
  );
  const pools = {
    apps: { backends: Object.fromEntries(NAMES.map((name, i) => [name, backends[i]?.at ?? ""])) },
  };
  const settings = { routes: [{ pool: "apps", sticky: { secret, ...sticky }, ...more }] };
  const [one, two] = [await startProxy(settings, pools), await startProxy(settings, pools)];
  const both = (backend: string, how: "up" | "down" | "drain" | "maintenance"): void => {
    for (const { proxy } of [one, two]) report(proxy, backend, how);
  };
  return { one, two, both, pools, settings };
}

interface Answer {
  readonly from: string;
  /** As a browser keeps it: `name=value`. */
  readonly cookie: string | undefined;
}
async function get(port: number, headers: Record<string, string | undefined> = {}): Promise<Answer> {
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : `${name}: ${value}\r\n`,
  );
  const text = await ask(port, `GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines.join("")}\r\n`);
  return { from: text.at(-1) ?? "", cookie: /Set-Cookie: (nines=[^;]+);/.exec(text)?.[1] };
}

/** As many clients with cookies as it takes for this backend to have eight. */
async function clientsOf(port: number, wanted: string): Promise<Answer[]> {
  const found: Answer[] = [];
  for (let i = 0; i < 200 && found.length < 8; i++) {
    const answer = await get(port);
    if (answer.from === wanted) found.push(answer);
  }
  return found;
}

describe("where a cookie's backend is gone", () => {
  it.each(["down", "maintenance"] as const)(
    "(%s) every node finds the same substitute for a client, and clients spread over the others",
    async (how) => {
      const { one, two, both } = await pair({});
      const clients = await clientsOf(one.port, "a");
      expect(clients).toHaveLength(8);
      const others = await clientsOf(one.port, "b");
      both("a", how);
      const now: Answer[] = [];
      for (const { cookie } of clients) {
        const [here, there] = [await get(one.port, { cookie }), await get(two.port, { cookie })];
        expect(here.from).not.toBe("a");
        expect(there.from).toBe(here.from);
        now.push(here);
      }
      expect(new Set(now.map(({ from }) => from)).size).toBeGreaterThan(1);
      // Clients of others stay where they are.
      for (const { cookie } of others)
        expect(await get(two.port, { cookie })).toEqual({ from: "b", cookie: undefined });
      // They have a cookie of the substitute, which holds when the first one is back.
      both("a", "up");
      for (const { from, cookie } of now) {
        expect(cookie).toBeDefined();
        expect(await get(two.port, { cookie })).toEqual({ from, cookie: undefined });
      }
    },
  );

  it("they come back with it where the site says so, and only the substitute's own move when that goes too", async () => {
    const { one, two, both } = await pair({ comeBack: true });
    const clients = await clientsOf(one.port, "a");
    both("a", "down");
    const places = new Map<string, string>();
    for (const { cookie } of clients) {
      const answer = await get(one.port, { cookie });
      expect(answer.cookie).toBeUndefined();
      places.set(cookie ?? "", answer.from);
    }
    both("b", "down");
    for (const [cookie, before] of places) {
      const { from } = await get(two.port, { cookie });
      if (before === "b") expect(["c", "d"]).toContain(from);
      else expect(from).toBe(before);
    }
    both("b", "up");
    both("a", "up");
    for (const [cookie] of places)
      expect(await get(two.port, { cookie })).toEqual({ from: "a", cookie: undefined });
  });

  it("that the site no longer has, they get a new cookie in any case", async () => {
    const { one, two, pools, settings } = await pair({ comeBack: true });
    const [client] = await clientsOf(one.port, "a");
    const { a: _, ...rest } = pools.apps.backends as Record<string, string>;
    for (const { proxy } of [one, two]) await proxy.apply(siteOf(settings, { apps: { backends: rest } }));
    const [here, there] = [
      await get(one.port, { cookie: client?.cookie }),
      await get(two.port, { cookie: client?.cookie }),
    ];
    expect(here.cookie).toBeDefined();
    expect(there).toEqual(here);
  });

  it("the explanation says which one it is, and a retry goes there before any check has noticed", async () => {
    const { one, two, pools } = await pair({ comeBack: true });
    const [client] = await clientsOf(one.port, "a");
    const { cookie } = client ?? {};
    const known = one.proxy.explain("web", {
      target: "/",
      host: "x",
      headers: { cookie: cookie ?? "" },
    }).sticky;
    expect(known).toBe("its cookie names apps/a, which keeps its clients");
    for (const { proxy } of [one, two]) report(proxy, "a", "down");
    const { from } = await get(one.port, { cookie });
    const told = two.proxy.explain("web", {
      target: "/",
      host: "x",
      headers: { cookie: cookie ?? "" },
    }).sticky;
    expect(told).toBe(
      `its cookie names apps/a, which takes nobody now: rendezvous hashing of the client in the cookie gives apps/${from}`,
    );
    // The same where it is believed to be up and refuses.
    const dead = await startProxy(
      { routes: [{ pool: "apps", sticky: { secret, comeBack: true } }] },
      { apps: { backends: { ...pools.apps.backends, a: "127.0.0.1:1" } } },
    );
    expect(await get(dead.port, { cookie })).toEqual({ from, cookie: undefined });
  });
});

describe("a draining backend", () => {
  it.each([{}, { by: "header:x-user" }])("keeps its clients and gets no new ones (%o)", async (sticky) => {
    const { one, two, both } = await pair(sticky);
    const clients: Answer[] = [];
    for (let i = 0; i < 60 && clients.length < 4; i++) {
      const answer = await get(one.port, { "x-user": `user${i}` });
      if (answer.from === "a") clients.push(answer);
    }
    expect(clients).toHaveLength(4);
    both("a", "drain");
    for (const { cookie } of clients) {
      for (const { port } of [one, two])
        expect(await get(port, { cookie })).toEqual({ from: "a", cookie: undefined });
    }
    for (let i = 0; i < 24; i++) expect((await get(one.port, { "x-user": `user${i}` })).from).not.toBe("a");
    // Down ends even that.
    both("a", "down");
    for (const { cookie } of clients) expect((await get(one.port, { cookie })).from).not.toBe("a");
  });
});

describe("clients that take no cookie", () => {
  it("are placed by what the site says, alike at every node; when a backend goes only its own move, and come back", async () => {
    const { one, two, both } = await pair({ by: "header:x-user" });
    const users = Array.from({ length: 32 }, (_, i) => `user${i}`);
    const places = async (port: number): Promise<string[]> => {
      const found: string[] = [];
      for (const user of users) found.push((await get(port, { "x-user": user })).from);
      return found;
    };
    const before = await places(one.port);
    expect(await places(two.port)).toEqual(before);
    expect(new Set(before)).toEqual(new Set(NAMES));
    both("c", "down");
    const without = await places(two.port);
    for (const [i, from] of without.entries())
      if (before[i] === "c") expect(from).not.toBe("c");
      else expect(from).toBe(before[i]);
    both("c", "up");
    expect(await places(two.port)).toEqual(before);
    expect(two.proxy.explain("web", { target: "/", host: "x", headers: { "x-user": "user0" } }).sticky).toBe(
      `no cookie that it signed: rendezvous hashing of header:x-user gives apps/${before[0]}`,
    );
    // Without even that, the scheduler is asked, in turn.
    const turns: string[] = [];
    for (let i = 0; i < 8; i++) turns.push((await get(one.port)).from);
    expect(new Set(turns)).toEqual(new Set(NAMES));
  });

  it("are placed by their address", async () => {
    const { one, two } = await pair({ by: "client" });
    const seen = new Set<string>();
    for (let i = 0; i < 6; i++) for (const { port } of [one, two]) seen.add((await get(port)).from);
    expect(seen.size).toBe(1);
  });
});

describe("clients of a canary", () => {
  it("stay with its pool when their backend goes, and by a key every node chooses the same pool", async () => {
    const answering = async (body: string): Promise<string> =>
      (await startAnswering(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${body}`)).at;
    const pools = {
      apps: { backends: { a: await answering("a"), b: await answering("b") } },
      canary: { backends: { x: await answering("x"), y: await answering("y") } },
    };
    const settings = { routes: [{ pool: { apps: 1, canary: 1 }, sticky: { secret, by: "header:x-user" } }] };
    const [one, two] = [await startProxy(settings, pools), await startProxy(settings, pools)];
    const found: Answer[] = [];
    for (let i = 0; i < 32; i++) {
      const answer = await get(one.port, { "x-user": `user${i}` });
      expect((await get(two.port, { "x-user": `user${i}` })).from).toBe(answer.from);
      found.push(answer);
    }
    expect(new Set(found.map(({ from }) => from))).toEqual(new Set(["a", "b", "x", "y"]));
    for (const { proxy } of [one, two])
      for (const backend of ["x"])
        proxy.backendStatus({
          pool: "canary",
          backend,
          health: "down",
          admin: "enabled",
          reason: "a test",
          effectiveWeight: 0,
        });
    for (const { cookie } of found.filter(({ from }) => from === "x"))
      expect((await get(two.port, { cookie })).from).toBe("y");
    // With nobody left there, they are served by the others.
    for (const { proxy } of [one, two])
      proxy.backendStatus({
        pool: "canary",
        backend: "y",
        health: "down",
        admin: "enabled",
        reason: "a test",
        effectiveWeight: 0,
      });
    for (const { cookie } of found.filter(({ from }) => from === "x")) {
      const [here, there] = [await get(one.port, { cookie }), await get(two.port, { cookie })];
      expect(["a", "b"]).toContain(here.from);
      expect(there.from).toBe(here.from);
    }
  });
});
