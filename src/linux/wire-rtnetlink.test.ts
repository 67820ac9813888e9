import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { ms, seconds } from "../base/time.ts";
import { decodeInterfaceAddress, encodeAddress } from "./wire-address.ts";
import { decodeLink, encodeLinkChange, encodeMacvlan } from "./wire-link.ts";
import { type NetlinkMessage, readAttributes } from "./wire-netlink.ts";
import { decodeNeighbour, decodeRoute, decodeRule, encodeNeighbour } from "./wire-route.ts";

const message = (payload: Uint8Array, type = 0): NetlinkMessage => ({
  type,
  flags: 0,
  seq: 0,
  portid: 0,
  payload,
});

describe("addresses", () => {
  it("come back as they were written", () => {
    const written = {
      ifindex: 7,
      address: ip("2001:db8::1"),
      validFor: seconds(4),
      preferredFor: ms(0),
      noDad: true,
      noPrefixRoute: true,
    };
    expect(decodeInterfaceAddress(message(encodeAddress(written)))).toMatchObject({
      ifindex: 7,
      address: "2001:db8::1",
      prefixLength: 128,
      validFor: 4000,
      preferredFor: 0,
      noPrefixRoute: true,
    });
  });
  it("are never preferred for longer than they are valid, which the kernel refuses", () => {
    const body = encodeAddress({ ifindex: 1, address: ip("10.0.0.1"), validFor: ms(1500) });
    expect(decodeInterfaceAddress(message(body))).toMatchObject({ validFor: 2000, preferredFor: 2000 });
    const stays = encodeAddress({ ifindex: 1, address: ip("10.0.0.1") });
    expect(decodeInterfaceAddress(message(stays))).toMatchObject({ validFor: undefined });
  });
});

it("neighbours come back as they were written", () => {
  const entry = { ifindex: 3, address: ip("10.0.0.9"), state: "permanent" as const };
  expect(decodeNeighbour(message(encodeNeighbour(entry)))).toEqual({ ...entry, mac: undefined });
});

it("a link's change touches only what is named", () => {
  const attributes = (body: Uint8Array) => [...readAttributes(body, 16).keys()];
  expect(attributes(encodeLinkChange(4, { up: true }))).toEqual([]);
  expect(attributes(encodeLinkChange(4, { mtu: 9000, master: 0 }))).toEqual([4, 10]);
  expect(attributes(encodeMacvlan({ name: "v", parent: 2, mode: "private" }))).toEqual([3, 5, 18]);
});

it("arbitrary bytes never throw in any decoder", () => {
  const decoders = [decodeLink, decodeInterfaceAddress, decodeNeighbour, decodeRoute, decodeRule];
  const family = fc.constantFrom(0, 2, 10);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), family, (bytes, first) => {
      bytes[0] = first;
      for (const decode of decoders) decode(message(bytes));
    }),
    { numRuns: 500 },
  );
  // Well-formed attributes with wrong contents reach further than noise does.
  const attribute = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.uint8Array({ maxLength: 20 }));
  fc.assert(
    fc.property(
      family,
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(attribute),
      (first, head, list) => {
        for (const skip of [8, 12, 16]) {
          const parts = list.flatMap(([type, value]) => {
            const padding = new Uint8Array((4 - (value.length % 4)) % 4);
            return [4 + value.length, 0, type, 0, ...value, ...padding];
          });
          const bytes = Uint8Array.from([first, ...head.subarray(1, skip), ...parts]);
          for (const decode of decoders) decode(message(bytes));
        }
      },
    ),
    { numRuns: 500 },
  );
});
