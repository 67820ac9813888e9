import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  PEER_STATE_BYTES,
  type PeerState,
  decodePeerState,
  encodePeerState,
  versionWith,
} from "./wire-peers.ts";

const state: PeerState = {
  version: 2,
  site: "shop",
  node: "a",
  sequence: 7,
  certificates: { web: "-----BEGIN PRIVATE KEY-----secret" },
  accounts: { "https://authority/dir": { key: "the account's key", url: "https://authority/1", made: 5 } },
  challenges: [
    { kind: "http-01", token: "abc_-1", answer: "abc_-1.xyz" },
    { kind: "tls-alpn-01", name: "shop.example", certificate: "c", key: "k" },
  ],
  claims: ["web"],
  ordering: [],
  troubles: { web: { failures: 2, at: 5, reason: "rateLimited", of: "0123456789abcdef", node: "a" } },
};

describe("what nodes tell each other of certificates", () => {
  it("is read as it was written", () => {
    expect(decodePeerState(JSON.stringify(state))).toEqual({ ok: true, value: state });
  });

  it("is what a node reads that was not upgraded: the first version has nothing but what it knows", () => {
    const { version: _, site, ...news } = state;
    expect(JSON.parse(encodePeerState(news, site, 2))).toEqual(state);
    const { troubles, ...first } = state;
    expect(JSON.parse(encodePeerState(news, site, 1))).toEqual({ ...first, version: 1 });
    expect(decodePeerState(encodePeerState(news, site, 1))).toEqual({
      ok: true,
      value: { ...state, version: 1, troubles: {} },
    });
    expect(Object.keys(troubles)).toEqual(["web"]);
    expect([undefined, "1", "2", "3", "x"].map(versionWith)).toEqual([1, 1, 2, 2, 1]);
  });

  it.each<[string, (value: Record<string, unknown>) => unknown]>([
    ["another version", (value) => ({ ...value, version: 3 })],
    ["a field nobody knows", (value) => ({ ...value, more: 1 })],
    ["a field missing", (value) => ({ ...value, claims: undefined })],
    [
      "a token that is a path",
      (value) => ({ ...value, challenges: [{ kind: "http-01", token: "../x", answer: "a" }] }),
    ],
    [
      "an answer with a line end",
      (value) => ({ ...value, challenges: [{ kind: "http-01", token: "x", answer: "a\r\nb" }] }),
    ],
    ["a certificate beyond 64 KiB", (value) => ({ ...value, certificates: { web: "x".repeat(65 * 1024) } })],
    [
      "more services than a site has",
      (value) => ({
        ...value,
        certificates: Object.fromEntries(Array.from({ length: 257 }, (_, i) => [`s${i}`, "x"])),
      }),
    ],
    [
      "an account from nowhere",
      (value) => ({ ...value, accounts: { d: { key: "k", url: "no url", made: 0 } } }),
    ],
  ])("is refused with %s, without a word of what is in it", (_, change) => {
    const decoded = decodePeerState(JSON.stringify(change({ ...state })));
    expect(decoded.ok).toBe(false);
    expect(JSON.stringify(decoded)).not.toMatch(/secret|account's key/);
  });

  it("holds as many certificates as services may share, long ones, too", () => {
    const certificates = Object.fromEntries(
      Array.from({ length: 256 }, (_, i) => [`s${i}`, "x".repeat(15_000)]),
    );
    expect(decodePeerState(JSON.stringify({ ...state, certificates })).ok).toBe(true);
  });

  it("is refused where it is cut off anywhere, or too long", () => {
    const whole = JSON.stringify(state);
    for (let end = 0; end < whole.length; end++) expect(decodePeerState(whole.slice(0, end)).ok).toBe(false);
    expect(decodePeerState(" ".repeat(PEER_STATE_BYTES) + whole)).toEqual({
      ok: false,
      error: "it is longer than 4 MiB",
    });
  });

  it("never makes the reader throw", () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void decodePeerState(text)));
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(state)), (value, key) => {
        decodePeerState(JSON.stringify({ ...state, [key]: value }));
      }),
    );
  });
});
