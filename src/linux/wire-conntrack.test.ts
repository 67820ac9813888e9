import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, ipBytes } from "../base/addresses.ts";
import { hex } from "../base/bytes.ts";
import {
  type FlowPlan,
  decodeFlow,
  encodeFlow,
  describeFlow,
  writeFlowKey,
  encodeFlowQuery,
  writeFlowTimeout,
  writeFlowUpdate,
  writeNewFlow,
  flowKey,
  tuplesSame,
} from "./wire-conntrack.ts";
import { forEachAttribute } from "./wire-netlink.ts";

const tuple = (source: string, sourcePort: number, destination: string, destinationPort: number) => ({
  source: ipBytes(ip(source)),
  destination: ipBytes(ip(destination)),
  sourcePort,
  destinationPort,
});
const web: FlowPlan = {
  family: 4,
  protocol: 6,
  original: tuple("10.0.0.9", 4711, "10.0.0.1", 80),
  reply: tuple("10.1.0.11", 8080, "10.0.0.9", 4711),
  mark: 0x4e000001,
  timeout: 300,
  tcpState: 3,
  windowScales: [7, 9],
};
const attributeTypes = (bytes: Uint8Array): number[] => {
  const types: number[] = [];
  expect(forEachAttribute(bytes, 4, (type) => types.push(type))).toBe(true);
  return types;
};

describe("flows on netlink", () => {
  it("a new one carries its translation apart, and the reply as it would be without", () => {
    const bytes = encodeFlow(writeNewFlow, web);
    // Original, reply, NAT_DST, status, timeout, mark, protocol; no NAT_SRC, since the client's address stays.
    expect(attributeTypes(bytes)).toEqual([1, 2, 13, 3, 7, 8, 4]);
    const read = decodeFlow(bytes);
    expect(read?.reply).toEqual(tuple("10.0.0.1", 80, "10.0.0.9", 4711));
    expect(read).toMatchObject({
      mark: 0x4e000001,
      timeout: 300,
      tcpState: 3,
      windowScales: [7, 9],
      status: 14,
    });
    const masqueraded = { ...web, reply: tuple("10.1.0.11", 8080, "10.1.0.1", 40000) };
    expect(attributeTypes(encodeFlow(writeNewFlow, masqueraded))).toEqual([1, 2, 13, 6, 3, 7, 8, 4]);
    const plain = { ...web, reply: tuple("10.0.0.1", 80, "10.0.0.9", 4711) };
    expect(attributeTypes(encodeFlow(writeNewFlow, plain))).toEqual([1, 2, 3, 7, 8, 4]);
  });
  it("an update touches no translation, a UDP flow has no TCP state", () => {
    expect(attributeTypes(encodeFlow(writeFlowUpdate, web))).toEqual([1, 3, 7, 8, 4]);
    expect(attributeTypes(encodeFlow(writeFlowUpdate, { ...web, protocol: 17 }))).toEqual([1, 3, 7, 8]);
    expect(attributeTypes(encodeFlow(writeFlowTimeout, web))).toEqual([1, 7]);
    expect(attributeTypes(encodeFlow(writeFlowKey, { ...web, id: 9 }))).toEqual([1, 12]);
    expect(hex(encodeFlowQuery({ family: 6, mark: { value: 0x4e000000, mask: 0xff000000 } }))).toBe(
      "0a000000080008004e00000008001500ff000000",
    );
  });
  it("round trip in both families", () => {
    const address = (width: number) => fc.uint8Array({ minLength: width, maxLength: width });
    const port = fc.integer({ min: 0, max: 65535 });
    const anyTuple = (width: number) =>
      fc.record({
        source: address(width),
        destination: address(width),
        sourcePort: port,
        destinationPort: port,
      });
    const any = fc.constantFrom<4 | 6>(4, 6).chain((family) =>
      fc.record({
        family: fc.constant(family),
        original: anyTuple(family === 4 ? 4 : 16),
        protocol: fc.constantFrom(6, 17),
      }),
    );
    fc.assert(
      fc.property(any, ({ family, original, protocol }) => {
        const flow = { ...web, family, original, protocol, reply: { ...original } };
        const read = decodeFlow(encodeFlow(writeNewFlow, flow));
        expect(read).toMatchObject({ family, protocol, original });
        expect(tuplesSame(read?.original ?? web.original, original)).toBe(true);
      }),
    );
  });
  it("keys tell flows apart that differ in anything", () => {
    const other = [
      { ...web, protocol: 17 },
      { ...web, original: { ...web.original, sourcePort: 4712 } },
      { ...web, original: { ...web.original, destinationPort: 81 } },
      { ...web, original: tuple("10.0.0.8", 4711, "10.0.0.1", 80) },
      { ...web, original: tuple("10.0.0.9", 4711, "10.0.0.2", 80) },
      { ...web, original: tuple("2001:db8::9", 4711, "2001:db8::1", 80) },
    ];
    expect(new Set([web, ...other].map(flowKey)).size).toBe(7);
    expect(flowKey({ ...web, original: { ...web.original } })).toBe(flowKey(web));
  });
  it("are told to people with their backend", () => {
    const flow = { ...web, status: 0, id: 0, packets: 0, bytes: 0 };
    expect(describeFlow(flow)).toBe("tcp 10.0.0.9:4711 -> 10.0.0.1:80 at 10.1.0.11:8080");
  });
});

it("a flow among other bytes is read as it is alone, whatever stands around it and was read before", () => {
  const masqueraded = { ...web, reply: tuple("10.1.0.11", 8080, "10.1.0.1", 40000), mark: 0xffffffff };
  const datagram = { ...web, protocol: 17, timeout: 0xffffffff };
  const six = { ...web, family: 6 as const, original: tuple("2001:db8::9", 4711, "2001:db8::1", 80) };
  const flows = [web, masqueraded, datagram, { ...six, reply: six.original }];
  const index = fc.integer({ min: 0, max: flows.length - 1 });
  const noise = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(noise, index, noise, index, (before, which, behind, other) => {
      const bytes = encodeFlow(writeNewFlow, flows[which] ?? web);
      const alone = decodeFlow(bytes);
      decodeFlow(encodeFlow(writeNewFlow, flows[other] ?? web));
      const among = Uint8Array.from([...before, ...bytes, ...behind]);
      expect(decodeFlow(among, before.length, before.length + bytes.length)).toEqual(alone);
      expect(alone?.windowScales).toEqual(which === 2 ? undefined : [7, 9]);
      decodeFlow(among, before.length + other, among.length);
    }),
  );
});

it("arbitrary bytes never throw, and a cut or changed flow is read or refused", () => {
  const good = encodeFlow(writeNewFlow, web);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.integer({ min: 0, max: good.length }),
      fc.integer({ min: 0, max: 255 }),
      (noise, at, value) => {
        decodeFlow(noise);
        decodeFlow(good.subarray(0, at));
        decodeFlow(good.map((byte, i) => (i === at ? value : byte)));
      },
    ),
    { numRuns: 2000 },
  );
});
