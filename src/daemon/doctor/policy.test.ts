import { describe, expect, it } from "vitest";
import { site } from "../testing/fakes.ts";
import { type HostFacts, findings, needsOf } from "./policy.ts";

const good: HostFacts = {
  nativeProblem: undefined,
  missingCapabilities: [],
  realtimeRefused: undefined,
  links: [{ name: "eth0", up: true, running: true, rpFilter: 0 }],
  ipForward: true,
  ip6Forward: true,
  tcpLiberal: true,
  nftProblem: undefined,
  nftPersist: true,
  dropping: [],
  closed: [],
  marking: [],
  legacyTables: [],
  bridgeNfCall: undefined,
  markRules: [],
  conntrack: { count: 10, max: 262_144 },
  programs: new Set(["chronyd"]),
  openFiles: 1_048_576,
  heard: [],
  unknown: [],
};
const needs = needsOf(site(), "a");
const names = (more: Partial<HostFacts>): string[] =>
  findings({ ...good, ...more }, needs).map((each) => each.name);

describe("the doctor", () => {
  it("finds nothing on a host that is in order", () => {
    expect(names({})).toEqual([]);
  });
  it.each<[string, Partial<HostFacts>]>([
    ["native_missing", { nativeProblem: "cannot be loaded" }],
    ["capability_missing", { missingCapabilities: ["CAP_NET_RAW (VRRP)"] }],
    ["not_realtime", { realtimeRefused: "EPERM" }],
    ["few_files", { openFiles: 1024 }],
    ["clock_unkept", { programs: new Set() }],
    ["interface_missing", { links: [] }],
    ["interface_down", { links: [{ name: "eth0", up: true, running: false, rpFilter: 0 }] }],
    ["rp_filter_strict", { links: [{ name: "eth0", up: true, running: true, rpFilter: 1 }] }],
    ["address_manager", { programs: new Set(["chronyd", "systemd-network"]) }],
    ["nftables_missing", { nftProblem: "EPROTONOSUPPORT" }],
    ["nftables_not_persistent", { nftPersist: false }],
    ["forward_drop", { dropping: ["ip filter FORWARD"] }],
    [
      "input_drop",
      { closed: [{ at: "inet filter input", family: "inet", admits: [{ protocols: [6], ports: [22] }] }] },
    ],
    ["iptables_legacy", { legacyTables: ["filter"] }],
    ["bridge_nf_call", { bridgeNfCall: true }],
    ["foreign_marks", { marking: ["ip mangle PREROUTING (packet mark)"] }],
    ["mark_rules", { markRules: ["priority 100: fwmark 0x1 table 100"] }],
    ["conntrack_small", { conntrack: { count: 1, max: 4096 } }],
    ["conntrack_full", { conntrack: { count: 260_000, max: 262_144 } }],
    ["forwarding_off", { ipForward: false }],
    ["tcp_strict", { tcpLiberal: false }],
    [
      "vrid_in_use",
      { heard: [{ interface: "eth0", vrid: 51, family: 4, source: "10.0.0.9", addresses: ["10.0.0.77"] }] },
    ],
  ])("says %s, why it matters and how to mend it", (name, facts) => {
    expect(names(facts)).toEqual([name]);
    const [finding] = findings({ ...good, ...facts }, needs);
    for (const text of [finding?.what, finding?.why, finding?.mend]) expect(text?.length).toBeGreaterThan(10);
  });
  it("names what an input chain lets nobody send, and nothing that may pass", () => {
    const what = (admits: HostFacts["closed"][number]["admits"], family = "inet"): string | undefined =>
      findings({ ...good, closed: [{ at: "t c", family, admits }] }, needs)[0]?.what;
    expect(what([{ protocols: [112] }])).toMatch(/accepts hand-over \(UDP 5112\)$/);
    expect(what([{ protocols: [112] }, { protocols: [17], ports: [53, 5112] }])).toBeUndefined();
    expect(what([{ protocols: [112, 17] }])).toBeUndefined();
    expect(what([{}])).toBeUndefined();
    expect(what([], "ip")).toContain("VRRP (IP protocol 112), hand-over");
    expect(what([], "ip6")).toBeUndefined();
  });
  it("asks only for what the node needs", () => {
    const plain = needsOf(site({ site: "x", nodes: { a: { address: "10.0.0.2" } } }), "a");
    const facts = { ...good, dropping: ["ip filter FORWARD"], realtimeRefused: "EPERM", ipForward: false };
    expect(findings(facts, plain)).toEqual([]);
  });
  it("asks no routing of a node whose backends answer clients themselves", () => {
    const { forward4, forward6 } = needsOf(
      site({
        site: "x",
        nodes: { a: { address: "10.0.0.2" } },
        virtualRouters: {
          edge: {
            priorities: { a: 100 },
            members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1"] }],
          },
        },
        pools: { apps: { backends: { app1: "10.0.0.11:80" } } },
        services: {
          web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps", mode: "direct" } },
        },
      }),
      "a",
    );
    expect([forward4, forward6]).toEqual([false, false]);
  });
});
