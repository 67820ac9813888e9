import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type IpAddress, type MacAddress, ip } from "../base/addresses.ts";
import { SystemClock } from "../base/system-clock.ts";
import { ms } from "../base/time.ts";
import { type AddressHeard, AddressProbe } from "./address-probe.ts";
import { Announcer } from "./announce.ts";
import { NetworkNamespace } from "./namespace.ts";
import { type RawPacket, RawSocket, isLinkDown } from "./raw-socket.ts";

// Two hosts on one wire, each in a network namespace of its own; tshark looks on.
const root = process.getuid?.() === 0;
const clock = new SystemClock();
const has = (program: string): boolean => {
  try {
    return execFileSync("which", [program], { stdio: "pipe" }).length > 0;
  } catch {
    return false;
  }
};
const sh = (command: string): string => execFileSync("sh", ["-c", command], { encoding: "utf8" });
const sleep = (span: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, span));
const a = "02:00:00:00:00:0a" as MacAddress;
const b = "02:00:00:00:00:0b" as MacAddress;

describe.skipIf(!root)("two hosts on a wire", () => {
  const left = root ? NetworkNamespace.create() : (undefined as never);
  const right = root ? NetworkNamespace.create() : (undefined as never);
  const ifindex = { left: 0, right: 0 };

  beforeAll(async () => {
    left.run(() => sh("ip link add wire type veth peer name other"));
    // iproute2 takes a namespace by name or pid only: hand the peer over by a process that lives there.
    const sleeper = right.run(() => spawn("sleep", ["30"]));
    await once(sleeper, "spawn");
    left.run(() => sh(`ip link set other netns ${sleeper.pid}`));
    right.run(() => sh("ip link set other name wire"));
    sleeper.kill();
    for (const [side, mac, n] of [
      [left, a, 1],
      [right, b, 2],
    ] as const) {
      side.run(() =>
        sh(`ip link set lo up; ip link set wire address ${mac}; sysctl -qw net.ipv6.conf.all.accept_dad=0 \
            net.ipv6.conf.wire.accept_dad=0; ip link set wire up; ip addr add 10.0.0.${n}/24 dev wire; \
            ip addr add 2001:db8::${n}/64 dev wire nodad`),
      );
    }
    for (const side of ["left", "right"] as const)
      ifindex[side] = Number(
        (side === "left" ? left : right).run(() =>
          sh("cat /proc/net/dev_mcast | awk '$2==\"wire\"{print $1; exit}'"),
        ),
      );
    await sleep(300);
  });
  afterAll(() => {
    left.close();
    right.close();
  });

  it.each([
    { family: 4, group: "224.0.0.18", source: "10.0.0.1", unicast: "10.0.0.2" },
    { family: 6, group: "ff02::12", source: "fe80::ff:fe00:a", unicast: "2001:db8::2" },
  ] as const)(
    "raw protocol 112 over IPv$family: multicast and unicast, TTL sent and reported",
    async (version) => {
      const { family } = version;
      const group = ip(version.group);
      const source = ip(version.source);
      const got: { at: "left" | "right"; packet: RawPacket }[] = [];
      const open = (side: NetworkNamespace, at: "left" | "right", ttl: number) =>
        side.run(() =>
          RawSocket.open({
            family,
            protocol: 112,
            ifindex: ifindex[at],
            group,
            ttl,
            trafficClass: 0xc0,
            onPacket: (packet) => got.push({ at, packet: { ...packet, payload: packet.payload.slice() } }),
          }),
        );
      const here = open(left, "left", 255);
      const there = open(right, "right", 254);
      expect(here.send({ destination: group, payload: Uint8Array.of(1, 2, 3, 4), source })).toBe(0);
      expect(here.send({ destination: ip(version.unicast), payload: Uint8Array.of(5) })).toBe(0);
      expect(there.send({ destination: group, payload: Uint8Array.of(6) })).toBe(0);
      await sleep(50);
      expect(got.map(({ at, packet }) => [at, packet.ttl, packet.destination, [...packet.payload]])).toEqual(
        expect.arrayContaining([
          ["right", 255, group, [1, 2, 3, 4]],
          ["right", 255, version.unicast, [5]],
          ["left", 254, group, [6]],
        ]),
      );
      // Own multicast is not heard.
      expect(got).toHaveLength(3);
      expect(got.find(({ packet }) => packet.payload[0] === 1)?.packet.source).toBe(source);
      there.leave(group);
      here.send({ destination: group, payload: Uint8Array.of(7) });
      await sleep(50);
      expect(got).toHaveLength(3);
      here.close();
      there.close();
    },
  );

  it("a send on a link that is down is reported, and works again afterwards", () => {
    const group = ip("224.0.0.18");
    const socket = left.run(() =>
      RawSocket.open({ family: 4, protocol: 112, ifindex: ifindex.left, group, ttl: 255 }),
    );
    left.run(() => sh("ip link set wire down"));
    expect(isLinkDown(socket.send({ destination: group, payload: Uint8Array.of(1) }))).toBe(true);
    left.run(() => sh("ip link set wire up; ip addr replace 2001:db8::1/64 dev wire nodad"));
    expect(socket.send({ destination: group, payload: Uint8Array.of(1) })).toBe(0);
    socket.close();
  });

  it("a macvlan speaks for its parent with the virtual MAC and the parent's address", async () => {
    const mac = "00:00:5e:00:01:33";
    left.run(() =>
      sh(
        `ip link add link wire name vr address ${mac} type macvlan mode private; ip link set vr addrgenmode none; ip link set vr up`,
      ),
    );
    const index = Number(left.run(() => sh("cat /proc/net/dev_mcast | awk '$2==\"vr\"{print $1; exit}'")));
    const heard: RawPacket[] = [];
    const there = right.run(() =>
      RawSocket.open({
        family: 4,
        protocol: 112,
        ifindex: ifindex.right,
        group: ip("224.0.0.18"),
        ttl: 255,
        onPacket: (packet) => heard.push(packet),
      }),
    );
    const there6 = right.run(() =>
      RawSocket.open({
        family: 6,
        protocol: 112,
        ifindex: ifindex.right,
        group: ip("ff02::12"),
        ttl: 255,
        onPacket: (packet) => heard.push(packet),
      }),
    );
    const sender = (family: 4 | 6) =>
      left.run(() =>
        RawSocket.open({ family, protocol: 112, ifindex: index, ttl: 255, foreignSource: true }),
      );
    const four = sender(4);
    const six = sender(6);
    const payload = Uint8Array.of(9);
    expect(four.send({ destination: ip("224.0.0.18"), payload, source: ip("10.0.0.1") })).toBe(0);
    expect(six.send({ destination: ip("ff02::12"), payload, source: ip("fe80::ff:fe00:a") })).toBe(0);
    await sleep(50);
    expect(heard.map(({ source }) => source).sort()).toEqual(["10.0.0.1", "fe80::ff:fe00:a"]);
    for (const socket of [four, six, there, there6]) socket.close();
    left.run(() => sh("ip link del vr"));
  });

  it("asks for gateways and is answered, or not in time", async () => {
    const heard: AddressHeard[] = [];
    const probe = left.run(() =>
      AddressProbe.open({ clock, ifindex: ifindex.left, mac: a, onHeard: (h) => heard.push(h) }),
    );
    const timeout = ms(300);
    const ask = (target: string, source?: string) =>
      probe.ask(ip(target), { timeout, ...(source === undefined ? {} : { source: ip(source) }) });
    expect(
      await Promise.all([ask("10.0.0.2", "10.0.0.1"), ask("10.0.0.2"), ask("10.0.0.3", "10.0.0.1")]),
    ).toEqual([b, b, undefined]);
    expect(
      await Promise.all([
        ask("2001:db8::2", "2001:db8::1"),
        ask("2001:db8::2"),
        ask("2001:db8::3", "2001:db8::1"),
      ]),
    ).toEqual([b, b, undefined]);
    expect(heard).toEqual([]);
    probe.close();
  });

  it("announces so that a neighbour's table changes at once, and hears who claims a watched address", async () => {
    const heard: AddressHeard[] = [];
    const probe = right.run(() =>
      AddressProbe.open({ clock, ifindex: ifindex.right, mac: b, onHeard: (h) => heard.push(h) }),
    );
    probe.watch([ip("10.0.0.50"), ip("2001:db8::50")]);
    // The neighbour believes in another owner, and has just learnt it.
    right.run(() =>
      sh(`ip neigh replace 10.0.0.50 lladdr 02:00:00:00:00:99 dev wire nud reachable; \
          ip neigh replace 2001:db8::50 lladdr 02:00:00:00:00:99 dev wire nud reachable`),
    );
    const announcer = left.run(() => Announcer.open());
    const say = (address: IpAddress) => announcer.announce({ ifindex: ifindex.left, address, mac: a });
    expect([say(ip("10.0.0.50")), say(ip("2001:db8::50"))]).toEqual([0, 0]);
    expect(announcer.announce({ ifindex: 999, address: ip("10.0.0.50"), mac: a })).toBeGreaterThan(0);
    await sleep(50);
    const table = right.run(() => sh("ip neigh show"));
    expect(table).toContain(`10.0.0.50 dev wire lladdr ${a}`);
    expect(table).toContain(`2001:db8::50 dev wire lladdr ${a} router`);
    expect(heard).toEqual([
      { address: "10.0.0.50", mac: a, kind: "claim" },
      { address: "10.0.0.50", mac: a, kind: "claim" },
      { address: "2001:db8::50", mac: a, kind: "claim" },
    ]);
    const other = left.run(() => AddressProbe.open({ clock, ifindex: ifindex.left, mac: a }));
    await Promise.all(["10.0.0.50", "2001:db8::50"].map((x) => other.ask(ip(x), { timeout: ms(50) })));
    expect(heard.slice(3)).toEqual([
      { address: "10.0.0.50", mac: a, kind: "probe" },
      { address: "2001:db8::50", mac: a, kind: "probe" },
    ]);
    expect([probe.malformed, other.malformed]).toEqual([0, 0]);
    announcer.close();
    probe.close();
    other.close();
  });

  it.skipIf(!has("tshark") || !has("dumpcap"))(
    "tshark decodes what we send without a complaint",
    async () => {
      const directory = mkdtempSync(join(tmpdir(), "nines-lan-"));
      const file = join(directory, "lan.pcap");
      const capture = right.run(() =>
        // tcpdump changes its user, which the root of a user namespace may not.
        spawn("dumpcap", ["-q", "-i", "wire", "-w", file, "-f", "arp or icmp6"]),
      );
      let said = "";
      capture.stderr.on("data", (part: Buffer) => (said += part.toString()));
      const closed = once(capture, "close");
      await vi.waitFor(() => expect(said).toContain("File: "), { timeout: 15_000, interval: 20 });
      await sleep(200);
      const announcer = left.run(() => Announcer.open());
      for (const address of [ip("10.0.0.60"), ip("2001:db8::60")])
        announcer.announce({ ifindex: ifindex.left, address, mac: a });
      const probe = left.run(() => AddressProbe.open({ clock, ifindex: ifindex.left, mac: a }));
      await Promise.all([
        probe.ask(ip("10.0.0.61"), { timeout: ms(100) }),
        probe.ask(ip("2001:db8::61"), { timeout: ms(100), source: ip("2001:db8::1") }),
      ]);
      await sleep(300);
      capture.kill("SIGINT");
      await closed;
      const lines = execFileSync("tshark", ["-r", file], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      expect(lines).toMatch(/Gratuitous ARP for 10\.0\.0\.60 \(Reply\)/);
      expect(lines).toMatch(/ARP Announcement for 10\.0\.0\.60/);
      expect(lines).toMatch(/Neighbor Advertisement 2001:db8::60 \(rtr, ovr\) is at 02:00:00:00:00:0a/);
      expect(lines).toMatch(/Who has 10\.0\.0\.61\? \(ARP Probe\)/);
      expect(lines).toMatch(/Neighbor Solicitation for 2001:db8::61 from 02:00:00:00:00:0a/);
      const complaints = execFileSync("tshark", ["-r", file, "-Y", "_ws.expert.severity >= 0x600000"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      // tshark warns of "duplicate IP address" where an announcement follows another's; only that is allowed.
      expect(complaints.split("\n").filter((line) => line !== "" && !/duplicate use/.test(line))).toEqual([]);
      announcer.close();
      probe.close();
      rmSync(directory, { recursive: true, force: true });
    },
  );
});
