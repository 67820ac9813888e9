import { afterEach, expect, it, vi } from "vitest";
import { type Clock, addTime, ms } from "../base/time.ts";
import { Proxy } from "../proxy/proxy.ts";
import { ProxyWorkers } from "./brain/proxy-workers.ts";
import { ProxyLink } from "./proxy-link.ts";
import { graft } from "./proxy-site.ts";
import { backend, fakeContext, pairInput, site } from "./testing/fakes.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const proxied = site({
  ...pairInput,
  services: { web: { listen: "127.0.0.1:1/tcp", proxy: { pool: "apps" } } },
});
/** On port 0, any that is free: none that a site file may name. */
const anyPort = Object.values(proxied.services).map((service) => ({
  ...service,
  listen: service.listen.map((one) => ({ ...one, ports: [0, 0] as const })),
}));

async function pair() {
  const real = fakeContext();
  /** Time that a test lets pass, ms; timers are of the real one. */
  const passed = { time: 0 };
  const clock: Clock = {
    monotonic: () => addTime(real.clock.monotonic(), ms(passed.time)),
    wall: () => real.clock.wall(),
    setTimer: (at, fire) => real.clock.setTimer(addTime(at, ms(-passed.time)), fire),
  };
  const context = { ...real, clock };
  /** What is wrong as of every change. */
  const problems: (string | undefined)[] = [];
  const workers: ProxyWorkers = new ProxyWorkers(context, () => void problems.push(workers.problem()));
  workers.site("d1");
  workers.backends([backend("one", "down"), backend("two", "up")]);
  await workers.start();
  ends.push(() => workers.stop());
  let count = 0;
  const join = async (spare = false) => {
    const index = ++count;
    const proxy = new Proxy();
    const services = Object.fromEntries(anyPort.map((one) => ["web", one]));
    if (!spare) await proxy.apply({ pools: proxied.pools, services });
    const reload = vi.fn(() => Promise.resolve());
    const who = () => ({ index, spare });
    const link = new ProxyLink({ context, proxy, who, digest: () => "d1", reload });
    link.start();
    ends.push(
      () => proxy.close(10),
      () => link.close(),
    );
    await vi.waitFor(() =>
      expect(workers.status().workers.find((one) => one.index === index)?.state).toBe(
        spare ? "spare" : "serving",
      ),
    );
    return { proxy, link, reload };
  };
  return { workers, problems, passed, join, ...(await join()) };
}

it("tells every other worker, and those that come later, of an ejection", async () => {
  const { workers, proxy, link, join } = await pair();
  const second = await join();
  const now = { forMs: 60_000, atMost: 0.5 };
  link.ejected({ ...now, backend: "apps/one" });
  await vi.waitFor(() => expect(second.proxy.ejected()).toEqual(["apps/one"]));
  const third = await join();
  await vi.waitFor(() => expect(third.proxy.ejected()).toEqual(["apps/one"]));
  // Whoever said it has done it already.
  expect(proxy.ejected()).toEqual([]);
  expect(workers.status().workers).toHaveLength(3);
});

it("hands the proofs that an authority looks for to every worker", async () => {
  const { workers, proxy } = await pair();
  const challenge = { kind: "http-01", token: "t1", answer: "t1.thumb" } as const;
  workers.certificates([challenge], 0);
  const asked = (): string | undefined => proxy.engine.challenges.answer("/.well-known/acme-challenge/t1");
  await vi.waitFor(() => expect(asked()).toBe("t1.thumb"));
  expect(proxy.engine.challenges.answer("/.well-known/acme-challenge/other")).toBeUndefined();
  workers.certificates([], 1);
  await vi.waitFor(() => expect(asked()).toBeUndefined());
});

it("pushes health to the workers, and counters and ejections back", async () => {
  const { workers, proxy, link } = await pair();
  const serving = (): unknown => proxy.explain("web", { host: "shop", target: "/" }).backends;
  await vi.waitFor(() => expect(JSON.stringify(serving())).toContain("its check fails"));
  const before = JSON.stringify(serving());
  workers.backends([backend("one", "up"), backend("two", "down")]);
  await vi.waitFor(() => expect(JSON.stringify(serving())).not.toBe(before));
  proxy.engine.event("retried");
  link.report();
  await vi.waitFor(() => {
    const retried = workers.metrics().find(({ labels }) => labels["event"] === "retried");
    expect(retried).toMatchObject({ name: "nines_proxy_events_total", value: 1 });
  });
  link.close();
  await vi.waitFor(() => expect(workers.problem()).toBe("no proxy worker runs"));
  // A counter never goes back.
  expect(workers.metrics().find(({ labels }) => labels["event"] === "retried")?.value).toBe(1);
});

it("lets the workers read the site anew with every reload, also where the digest stays", async () => {
  const { workers, reload } = await pair();
  expect(reload).not.toHaveBeenCalled();
  workers.site("d1");
  await vi.waitFor(() => expect(reload).toHaveBeenCalledTimes(1));
});

it("hears from each worker whether it has the site, and tells of those that go on without it", async () => {
  const { workers, reload, passed } = await pair();
  workers.site("d1");
  expect(await workers.refusals()).toEqual([]);
  reload.mockRejectedValueOnce(new Error("web.crt: ENOENT"));
  workers.site("d1");
  expect(await workers.refusals()).toEqual(["proxy worker 1: web.crt: ENOENT"]);
  expect(workers.stale()).toBeUndefined();
  passed.time += 5000;
  expect(workers.stale()).toBe("1 of 1 workers do not run the accepted site: web.crt: ENOENT");
  workers.site("d1");
  expect(await workers.refusals()).toEqual([]);
  expect(workers.stale()).toBeUndefined();
});

it("tells where fewer workers serve than are wanted for longer than a restart takes", async () => {
  const { workers, passed } = await pair();
  expect([workers.short(1), workers.short(2)]).toEqual([undefined, undefined]);
  passed.time += 5000;
  expect(workers.short(2)).toContain("1 of 2 proxy workers");
  expect(workers.short(1)).toBeUndefined();
});

it("misses nobody for a while where one leaves as planned", async () => {
  const { workers, link } = await pair();
  link.stop();
  await vi.waitFor(() => expect(workers.status().workers[0]?.state).toBe("leaving"));
  expect(workers.problem()).toBeUndefined();
});

it("waits for a spare where there is one, and for nobody where there is none", async () => {
  const { problems, link, join } = await pair();
  const spare = await join(true);
  problems.length = 0;
  link.close();
  await vi.waitFor(() => expect(problems.length).toBeGreaterThan(0));
  expect(problems[0]).toBeUndefined();
  problems.length = 0;
  spare.link.close();
  await vi.waitFor(() => expect(problems.length).toBeGreaterThan(0));
  expect(problems[0]).toBe("no proxy worker runs");
});

it("puts middleware back in its place, and one that is gone refuses instead of letting pass", () => {
  const pass = (): undefined => undefined;
  const input = {
    ...pairInput,
    services: {
      web: { listen: "10.0.0.2:80/tcp", proxy: { routes: [{ pool: "apps", middleware: [pass, pass] }] } },
    },
  };
  const loaded = site(input);
  const accepted = JSON.parse(JSON.stringify(loaded)) as typeof loaded;
  const functions = () => accepted.services["web"]?.proxy?.routes?.[0]?.middleware ?? [];
  graft(accepted, loaded);
  expect(functions()).toEqual([pass, pass]);
  graft(accepted, undefined);
  expect(functions()).toHaveLength(2);
  expect(() => functions()[0]?.({} as never, {} as never)).toThrow("reload the site");
});
