import fc from "fast-check";
import { expect, it } from "vitest";
import { addressAt, windowScales } from "./wire-shared.ts";

it("a shared address is what stands there, however many passed before and whatever happens to the bytes later", () => {
  const width = fc.constantFrom(4, 16);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(70), width, (bytes, at, length) => {
      const wanted = Array.from({ length }, (_, i) => bytes[at + i] ?? 0);
      const read = addressAt(bytes, at, length);
      bytes.fill(0xa5);
      expect([...read]).toEqual(wanted);
    }),
    { numRuns: 2000 },
  );
});
it("is made once while it is in use", () => {
  const bytes = Uint8Array.of(10, 9, 8, 7, 10, 9, 8, 7);
  expect(addressAt(bytes, 0, 4)).toBe(addressAt(bytes, 4, 4));
});
it("holds no more than its places, however many addresses there are", () => {
  const bytes = new Uint8Array(4);
  const first = addressAt(bytes, 0, 4);
  for (let i = 1; i < 100_000; i++) {
    new DataView(bytes.buffer).setUint32(0, i * 2_654_435_761);
    addressAt(bytes, 0, 4);
  }
  bytes.fill(0);
  // Its place was taken by another: it is made anew, and nobody who has it sees a change.
  expect(addressAt(bytes, 0, 4)).not.toBe(first);
  expect([...first]).toEqual([0, 0, 0, 0]);
});
it("window scales are pairs, or unknown", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 255 }), (a, b) => {
      expect(windowScales(a, b)).toEqual([a, b]);
    }),
  );
  expect(windowScales(-1, 3)).toBeUndefined();
  expect(windowScales(3, -1)).toBeUndefined();
});
