import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type IpAddress,
  type MacAddress,
  ip,
  ipBytes,
  ipFromBytes,
  macFromBytes,
} from "../base/addresses.ts";
import { hex } from "../base/bytes.ts";
import { arpRequest, decodeArp, encodeArp, gratuitousArp } from "./wire-arp.ts";
import { arpFilter, ndFilter } from "./wire-bpf.ts";
import { decodeControl, encodeControl, packetInfo, readReceived } from "./wire-control.ts";
import {
  decodeNd,
  encodeNd,
  multicastMac,
  solicitation,
  solicitedNode,
  unsolicitedAdvertisement,
} from "./wire-nd.ts";

const mac = "00:00:5e:00:01:33" as MacAddress;
const anyIp4 = fc.uint8Array({ minLength: 4, maxLength: 4 }).map(ipFromBytes);
const anyIp6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(ipFromBytes);
const anyMac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes);

describe("ARP", () => {
  it("gratuitous, reply form: the target's hardware is the sender's, so that Linux takes it at once", () => {
    expect(hex(encodeArp(gratuitousArp(ip("10.0.0.1"), mac, "reply")))).toBe(
      "000108000604000200005e0001330a00000100005e0001330a000001",
    );
    expect(hex(encodeArp(gratuitousArp(ip("10.0.0.1"), mac, "request")))).toBe(
      "000108000604000100005e0001330a0000010000000000000a000001",
    );
  });
  it("round trip, Ethernet's padding accepted", () => {
    fc.assert(
      fc.property(
        anyMac,
        anyIp4,
        anyMac,
        anyIp4,
        fc.boolean(),
        (senderMac, senderIp, targetMac, targetIp, reply) => {
          const operation = reply ? ("reply" as const) : ("request" as const);
          const packet = { operation, senderMac, senderIp, targetMac, targetIp };
          const padded = Uint8Array.from([...encodeArp(packet), ...new Uint8Array(18)]);
          expect(decodeArp(padded)).toEqual({ ok: true, value: packet });
        },
      ),
    );
  });
  it("refuses by name", () => {
    const good = encodeArp(arpRequest(ip("10.0.0.9"), mac));
    const changed = (at: number, value: number) => good.map((byte, i) => (i === at ? value : byte));
    expect(decodeArp(good.subarray(0, 27))).toEqual({ ok: false, error: "arp_short" });
    expect(decodeArp(changed(3, 6))).toEqual({ ok: false, error: "arp_not_ethernet_ipv4" });
    expect(decodeArp(changed(7, 3))).toEqual({ ok: false, error: "arp_operation" });
  });
});

describe("neighbour discovery", () => {
  it("an unsolicited advertisement of a router: R and O set, S clear, to all nodes", () => {
    expect(hex(encodeNd(unsolicitedAdvertisement(ip("2001:db8::1"), mac, true)))).toBe(
      "6000000000203aff" +
        "20010db8000000000000000000000001" +
        "ff020000000000000000000000000001" +
        "88001bf8a0000000" +
        "20010db8000000000000000000000001" +
        "020100005e000133",
    );
  });
  it("the solicited-node group and its MAC (RFC 4291, 2.7.1)", () => {
    expect(solicitedNode(ip("4037::1:800:200e:8c6c"))).toBe("ff02::1:ff0e:8c6c");
    expect(multicastMac(ip("ff02::1:ff0e:8c6c"))).toBe("33:33:ff:0e:8c:6c");
  });
  it("round trip", () => {
    fc.assert(
      fc.property(anyIp6, anyMac, fc.boolean(), fc.option(anyIp6), (target, own, router, source) => {
        for (const packet of [
          unsolicitedAdvertisement(target, own, router),
          solicitation(target, own, source ?? undefined),
        ])
          expect(decodeNd(encodeNd(packet))).toEqual({ ok: true, value: packet });
      }),
    );
  });
  it("refuses by name", () => {
    const good = encodeNd(unsolicitedAdvertisement(ip("fe80::1"), mac, true));
    const changed = (at: number, value: number) => good.map((byte, i) => (i === at ? value : byte));
    expect(decodeNd(good.subarray(0, 60))).toEqual({ ok: false, error: "nd_short" });
    expect(decodeNd(changed(5, 23))).toEqual({ ok: false, error: "nd_short" });
    expect(decodeNd(changed(7, 254))).toEqual({ ok: false, error: "nd_hop_limit" });
    expect(decodeNd(changed(40, 134))).toEqual({ ok: false, error: "nd_not_nd" });
    expect(decodeNd(changed(70, 2))).toEqual({ ok: false, error: "nd_checksum" });
    const option = changed(65, 0); // an option of no length would never end
    option[43] = ((option[43] ?? 0) + 1) & 255;
    expect(decodeNd(option)).toEqual({ ok: false, error: "nd_option" });
  });
});

/** What the kernel's interpreter does, of the instructions that we use. */
function runFilter(program: Uint8Array, packet: Uint8Array): number {
  const view = new DataView(program.buffer);
  const data = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  let a = 0;
  for (let pc = 0; pc * 8 < program.length; pc++) {
    const k = view.getUint32(8 * pc + 4, true);
    const code = view.getUint16(8 * pc, true);
    if (code === 0x06) return k;
    if (code === 0x15) pc += view.getUint8(8 * pc + (a === k ? 2 : 3));
    else if (code === 0x20) {
      if (k + 4 > packet.length) return 0;
      a = data.getUint32(k);
    } else if (code === 0x30) {
      if (k >= packet.length) return 0;
      a = data.getUint8(k);
    } else throw new Error(`instruction ${code}`);
  }
  throw new Error("fell off the end");
}

describe("the kernel filters", () => {
  const watched = [ip("10.0.0.1"), ip("2001:db8::1"), ip("10.0.0.2"), ip("2001:db8::2")];
  const takes = (filter: (list: readonly IpAddress[]) => Uint8Array, packet: Uint8Array, list = watched) =>
    runFilter(filter(list), packet) !== 0;
  it("let ARP through that is about a watched address, and nothing else", () => {
    for (const address of [ip("10.0.0.1"), ip("10.0.0.2")]) {
      expect(takes(arpFilter, encodeArp(gratuitousArp(address, mac, "reply")))).toBe(true);
      expect(takes(arpFilter, encodeArp(arpRequest(address, mac)))).toBe(true);
      expect(takes(arpFilter, encodeArp(arpRequest(address, mac, ip("10.0.0.77"))))).toBe(false);
    }
    expect(takes(arpFilter, encodeArp(gratuitousArp(ip("10.0.0.3"), mac, "reply")))).toBe(false);
    expect(takes(arpFilter, encodeArp(arpRequest(ip("10.0.0.3"), mac)))).toBe(false);
    expect(takes(arpFilter, encodeArp(arpRequest(ip("10.0.0.1"), mac)), [])).toBe(false);
  });
  it("let neighbour discovery through that is about a watched address, and nothing else", () => {
    for (const address of [ip("2001:db8::1"), ip("2001:db8::2")]) {
      expect(takes(ndFilter, encodeNd(unsolicitedAdvertisement(address, mac, true)))).toBe(true);
      expect(takes(ndFilter, encodeNd(solicitation(address, mac)))).toBe(true);
    }
    expect(takes(ndFilter, encodeNd(solicitation(ip("2001:db8::3"), mac)))).toBe(false);
    const other = encodeNd(solicitation(ip("2001:db8::1"), mac));
    other[40] = 133;
    expect(takes(ndFilter, other)).toBe(false);
    other[6] = 6;
    expect(takes(ndFilter, other)).toBe(false);
  });
});

describe("ancillary data", () => {
  it("round trip, and packet information is read back", () => {
    const control = encodeControl([
      { level: 0, type: 2, data: Uint8Array.of(255, 0, 0, 0) },
      packetInfo(ip("10.0.0.1"), 4, 7),
    ]);
    expect(control.length).toBe(24 + 32);
    expect(readReceived(control)).toEqual({ destination: "0.0.0.0", ifindex: 7, ttl: 255 });
    const six = encodeControl([packetInfo(ip("fe80::1"), 6, 9)]);
    expect(readReceived(six)).toEqual({ destination: "fe80::1", ifindex: 9, ttl: undefined });
    expect(ipBytes(ip("fe80::1"))).toEqual(decodeControl(six)[0]?.data.subarray(0, 16));
  });
});

it("arbitrary bytes never throw in any decoder", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      decodeArp(bytes);
      decodeNd(bytes);
      readReceived(bytes);
    }),
    { numRuns: 1000 },
  );
});
