import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ip, parseMac } from "../base/addresses.ts";
import { SystemClock } from "../base/system-clock.ts";
import { ms, seconds } from "../base/time.ts";
import { NetworkNamespace } from "./namespace.ts";
import { type KernelEvent, KernelEvents, Rtnetlink, whoIs } from "./rtnetlink.ts";

// Our netlink against what `ip` reports, in a network namespace of this test's own.
const root = process.getuid?.() === 0;
const clock = new SystemClock();
const sh = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const json = (...args: string[]): Record<string, unknown>[] =>
  JSON.parse(sh("-j", "-d", ...args) || "[]") as Record<string, unknown>[];
const sleep = (span: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, span));
const mac = (text: string) => {
  const parsed = parseMac(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
};

describe.skipIf(!root)("rtnetlink", () => {
  let rt: Rtnetlink;
  let namespace: NetworkNamespace;
  beforeAll(() => {
    namespace = NetworkNamespace.create();
    namespace.enter();
    sh("link", "set", "lo", "up");
    sh("link", "add", "left", "type", "veth", "peer", "name", "right");
    sh("link", "set", "left", "up");
    sh("link", "set", "right", "up");
    rt = Rtnetlink.open(clock);
  });
  afterAll(() => {
    rt.close();
    namespace.close();
  });

  it("lists the links that ip lists, and finds one by name and by index", async () => {
    const ours = await rt.links();
    const theirs = json("link");
    expect(ours.map(({ index, name, mac, mtu }) => ({ index, name, mac, mtu }))).toEqual(
      theirs.map((l) => ({ index: l["ifindex"], name: l["ifname"], mac: l["address"], mtu: l["mtu"] })),
    );
    const left = await rt.link("left");
    expect(left).toMatchObject({ up: true, running: true, kind: "veth", loopback: false, operState: "up" });
    expect(await rt.link(left?.index ?? 0)).toEqual(left);
    expect(await rt.link("none")).toBeUndefined();
    await expect(rt.linkNamed("eth7")).rejects.toMatchObject({
      code: "INTERFACE_MISSING",
      message: 'there is no interface "eth7" (there are: lo, right, left)',
    });
  });

  it("makes a macvlan that is down and makes no address of its own, and removes it", async () => {
    const parent = await rt.linkNamed("left");
    const made = await rt.createMacvlan({
      name: "vr51",
      parent: parent.index,
      mode: "private",
      mac: mac("00:00:5e:00:01:33"),
    });
    expect(made).toMatchObject({ up: false, running: false, kind: "macvlan", parent: parent.index });
    expect(json("link", "show", "vr51")[0]).toMatchObject({
      address: "00:00:5e:00:01:33",
      inet6_addr_gen_mode: "none",
      linkinfo: { info_kind: "macvlan", info_data: { mode: "private" } },
    });
    await rt.changeLink(made.index, { up: true });
    expect(await rt.addresses({ ifindex: made.index })).toEqual([]);
    await expect(
      rt.createMacvlan({ name: "vr51", parent: parent.index, mode: "bridge" }),
    ).rejects.toMatchObject({ message: expect.stringContaining("EEXIST") });
    expect(await rt.deleteLink("vr51")).toBe(true);
    expect(await rt.deleteLink("vr51")).toBe(false);
  });

  it("puts addresses of both families as ip shows them, renews them and takes them away", async () => {
    const { index } = await rt.linkNamed("left");
    const four = { ifindex: index, address: ip("10.9.0.1"), validFor: seconds(100), origin: 77 };
    const six = {
      ifindex: index,
      address: ip("2001:db8::1"),
      validFor: seconds(100),
      preferredFor: ms(0),
      noDad: true,
      noPrefixRoute: true,
    };
    expect(await rt.putAddresses([four, six])).toEqual([]);
    const shown = (address: string) =>
      json("addr", "show", "dev", "left")
        .flatMap((l) => l["addr_info"] as Record<string, unknown>[])
        .find((a) => a["local"] === address);
    expect(shown("10.9.0.1")).toMatchObject({ prefixlen: 32, scope: "global", valid_life_time: 100 });
    expect(shown("2001:db8::1")).toMatchObject({
      prefixlen: 128,
      valid_life_time: 100,
      preferred_life_time: 0,
      nodad: true,
      noprefixroute: true,
    });
    await rt.putAddress({ ...four, validFor: ms(200_100) });
    const listed = await rt.addresses({ ifindex: index });
    expect(listed.find(({ address }) => address === "10.9.0.1")).toMatchObject({
      prefixLength: 32,
      validFor: 201_000,
      origin: 77,
    });
    expect(listed.find(({ address }) => address === "2001:db8::1")).toMatchObject({
      preferredFor: 0,
      noPrefixRoute: true,
      tentative: false,
      duplicate: false,
    });
    expect(await rt.deleteAddress(four)).toBe(true);
    expect(await rt.deleteAddress(four)).toBe(false);
    expect(await rt.deleteAddress(six)).toBe(true);
    await expect(rt.putAddress({ ...four, ifindex: 9999 })).rejects.toMatchObject({
      code: "INTERFACE_MISSING",
    });
    expect(await rt.addresses({ ifindex: 9999 })).toEqual([]);
  });

  it("delivers to an IPv6 address as soon as it is put, and no longer than it is there", async () => {
    const { index } = await rt.linkNamed("left");
    for (let i = 1; i <= 50; i++) {
      const six = { ifindex: index, address: ip(`2001:db8:7::${i}`), noDad: true, noPrefixRoute: true };
      await rt.putAddress(six);
      expect(await rt.deliverAtOnce([six], 112)).toEqual([]);
      expect(await rt.routeTo(six.address)).toMatchObject({ type: "local" });
      await rt.endDelivery([six], 112);
      await rt.deleteAddress(six);
      expect((await rt.routeTo(six.address))?.type).not.toBe("local");
      // Twice, and by itself.
      if (i < 50) continue;
      for (let twice = 0; twice < 2; twice++) expect(await rt.deliverAtOnce([six], 112)).toEqual([]);
      await vi.waitFor(async () => expect((await rt.routeTo(six.address))?.type).not.toBe("local"), 5000);
    }
  });

  it("one refused address of many does not hinder the others, and is named", async () => {
    const { index } = await rt.linkNamed("left");
    const addresses = Array.from({ length: 80 }, (_, i) => ({
      ifindex: index,
      address: ip(`10.8.0.${i + 1}`),
    }));
    const wrong = { ifindex: index, address: ip("10.8.1.1"), prefixLength: 33 };
    const refused = await rt.putAddresses([...addresses.slice(0, 40), wrong, ...addresses.slice(40)]);
    expect(refused).toMatchObject([{ index: 40, errno: 22 }]);
    const family = await rt.addresses({ ifindex: index, family: 4 });
    expect(family).toHaveLength(80);
    expect(await rt.deleteAddresses(addresses)).toEqual([]);
    expect(await rt.addresses({ ifindex: index, family: 4 })).toEqual([]);
  });

  it("tells who removed what, links that go down, and an address whose time is over", async () => {
    const { index } = await rt.linkNamed("left");
    const seen: KernelEvent[] = [];
    const events = KernelEvents.open({
      clock,
      of: ["link", "address"],
      onEvent: (event) => seen.push(event),
      onOverrun: () => undefined,
    });
    const address = ip("10.9.0.2");
    await rt.putAddress({ ifindex: index, address, validFor: seconds(1) });
    sh("addr", "add", "10.9.0.3/32", "dev", "left");
    sh("addr", "del", "10.9.0.3/32", "dev", "left");
    sh("link", "set", "right", "down");
    events.drain();
    const of = (what: string) =>
      seen.flatMap((e) => (e.what === "address" && e.address.address === what ? [e] : []));
    expect(of("10.9.0.2")).toMatchObject([{ gone: false, by: rt.portid }]);
    expect(whoIs(rt.portid)).toContain(`process ${process.pid}`);
    const [added, removed] = of("10.9.0.3");
    expect([added?.gone, removed?.gone]).toEqual([false, true]);
    expect(removed?.by).not.toBe(0);
    expect(removed?.by).not.toBe(rt.portid);
    const leftDown = seen.some(
      (e) => e.what === "link" && e.link.name === "left" && e.link.up && !e.link.running,
    );
    expect(leftDown).toBe(true);
    sh("link", "set", "right", "up");
    await sleep(2500);
    expect(of("10.9.0.2").at(-1)).toMatchObject({ gone: true, by: 0 });
    events.close();
  });

  it("reads neighbours, routes and rules as ip does", async () => {
    const { index } = await rt.linkNamed("left");
    await rt.putAddress({ ifindex: index, address: ip("10.7.0.1"), prefixLength: 24 });
    const there = { ifindex: index, address: ip("10.7.0.9") };
    await rt.putNeighbour({ ...there, mac: mac("02:00:00:00:00:09"), state: "permanent" });
    expect(await rt.neighbours({ ifindex: index })).toContainEqual({
      ...there,
      mac: "02:00:00:00:00:09",
      state: "permanent",
    });
    sh("route", "add", "default", "via", "10.7.0.254", "metric", "7");
    sh("route", "add", "10.6.0.0/16", "nexthop", "via", "10.7.0.2", "nexthop", "via", "10.7.0.3");
    const routes = await rt.routes(4);
    expect(routes).toContainEqual({
      family: 4,
      destination: { address: "0.0.0.0", length: 0 },
      table: 254,
      type: "unicast",
      hops: [{ gateway: "10.7.0.254", ifindex: index }],
      metric: 7,
      preferredSource: undefined,
      protocol: 3,
    });
    expect(routes.find((r) => r.destination.address === "10.6.0.0")?.hops).toEqual([
      { gateway: "10.7.0.2", ifindex: index },
      { gateway: "10.7.0.3", ifindex: index },
    ]);
    const main = routes.filter((r) => r.table === 254);
    expect(main).toHaveLength(json("route", "show", "table", "main").length);
    expect((await rt.routeTo(ip("192.0.2.1")))?.hops[0]?.gateway).toBe("10.7.0.254");
    expect(await rt.routeTo(ip("2001:db8:ffff::1"))).toBeUndefined();
    sh("rule", "add", "fwmark", "0x1/0xff", "lookup", "100", "priority", "77");
    const rules = await rt.rules(4);
    expect(rules).toHaveLength(json("rule").length);
    expect(rules).toContainEqual({
      family: 4,
      priority: 77,
      from: undefined,
      to: undefined,
      mark: { value: 1, mask: 255 },
      inInterface: undefined,
      outInterface: undefined,
      action: "lookup",
      table: 100,
    });
    expect(await rt.deleteNeighbour(there)).toBe(true);
    expect(await rt.deleteNeighbour(there)).toBe(false);
    expect((await rt.rules(6)).length).toBeGreaterThan(0);
  });
});
