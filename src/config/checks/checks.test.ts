import { describe, expect, it } from "vitest";
import type { SiteInput } from "../schema/site.ts";
import { examineSource } from "../load.ts";
import { Positions } from "../source/positions.ts";

/** A site that has nothing wrong; each case changes one thing. */
function base() {
  return {
    site: "shop",
    nodes: { lb1: { address: "10.1.0.2", zone: "a" }, lb2: { address: "10.1.0.3", zone: "b" } },
    virtualRouters: {
      edge: {
        interval: "100ms",
        priorities: { lb1: 110, lb2: 100 },
        members: [
          { interface: "eth0", vrid: 51, addresses: ["10.0.0.1", "10.0.0.4"] },
          { interface: "eth1", vrid: 52, addresses: ["10.1.0.1"] },
        ],
      },
    },
    pools: { apps: { backends: { app1: "10.1.0.11:80", app2: "10.1.0.12:80" }, check: { tcp: true } } },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
  } satisfies SiteInput;
}
type Draft = { [K in keyof SiteInput]-?: NonNullable<SiteInput[K]> };

function told(change: (draft: Draft) => void): string[] {
  const draft = structuredClone<SiteInput>(base()) as Draft;
  change(draft);
  const report = examineSource({ file: "s", value: draft, positions: new Positions(), issues: [] });
  return [
    ...report.issues.map((issue) => `${issue.path}: ${issue.message}`),
    ...report.warnings.map((issue) => `warning ${issue.path}: ${issue.message}`),
  ];
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the base site lacks it");
  return value;
}
const edge = (draft: Draft) => must(draft.virtualRouters["edge"]);
const member = (draft: Draft) => must(edge(draft).members[0]);
const pool = (draft: Draft) => must(draft.pools["apps"]);
const six = ["fe80::200:5eff:fe00:233", "2001:db8::1"];

const cases: readonly (readonly [string, (draft: Draft) => void, readonly (string | RegExp)[]])[] = [
  ["nothing wrong", () => {}, []],
  [
    "no node",
    (d) => {
      d.nodes = {};
      edge(d).priorities = {};
    },
    [/no node/, /no node has a priority/],
  ],
  [
    "a node's address twice",
    (d) => {
      d.nodes["lb2"] = { address: "10.1.0.2", zone: "b" };
    },
    [/nodes.lb2.address: 10.1.0.2 is already/],
  ],
  [
    "a node's address that is none",
    (d) => {
      d.nodes["lb2"] = { address: "0.0.0.0", zone: "b" };
    },
    [/unspecified/],
  ],
  [
    "a virtual address that is a node's",
    (d) => {
      member(d).addresses = ["10.1.0.3", "10.0.0.1"];
    },
    [/addresses\[0\]: 10.1.0.3 is node lb2's own/],
  ],
  [
    "the address owner",
    (d) => {
      edge(d).priorities = { lb1: 255, lb2: 100 };
      member(d).addresses = ["10.1.0.2", "10.0.0.1"];
    },
    [/^warning virtualRouters.edge.priorities.lb1: lb1 owns the addresses .*takes over at every start/],
  ],
  [
    "an owner whose connections the others have",
    (d) => {
      edge(d).priorities = { lb1: 255, lb2: 100 };
      d.flows = { keys: "keys" };
    },
    [/^virtualRouters.edge.priorities.lb1: lb1 .*starts with an empty table.* of web/],
  ],
  [
    "an owner whose services replicate nothing",
    (d) => {
      edge(d).priorities = { lb1: 255, lb2: 100 };
      d.flows = { keys: "keys" };
      d.services["web"] = { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps", flows: "off" } };
    },
    [/^warning virtualRouters.edge.priorities.lb1: lb1 owns/],
  ],
  [
    "a track that lowers by as much as the lead",
    (d) => {
      edge(d).track = [{ gateway: ["10.0.0.9"], lower: 10 }];
    },
    [/^warning virtualRouters.edge.track\[0\].lower: lower: 10 never changes who is Active: the lead is 10/],
  ],
  [
    "a track that lowers by more than the lead",
    (d) => {
      edge(d).track = [{ gateway: ["10.0.0.9"], lower: 11 }];
    },
    [],
  ],
  [
    "two owners",
    (d) => {
      edge(d).priorities = { lb1: 255, lb2: 255 };
    },
    [/lb1 and lb2 have priority 255/],
  ],
  [
    "an idle node",
    (d) => {
      d.nodes["lb3"] = { address: "10.1.0.9" };
    },
    [/^warning nodes.lb3/],
  ],
  [
    "an unknown node",
    (d) => {
      edge(d).priorities["lb9"] = 3;
    },
    [/priorities.lb9: there is no node/],
  ],
  [
    "one node alone",
    (d) => {
      edge(d).priorities = { lb1: 1 };
      d.nodes = { lb1: { address: "10.1.0.2" } };
    },
    [/^warning .*only lb1/],
  ],
  [
    "equal priorities",
    (d) => {
      edge(d).priorities = { lb1: 100, lb2: 100 };
    },
    [/^warning .*same priority 100/],
  ],
  [
    "one zone",
    (d) => {
      d.nodes["lb2"] = { address: "10.1.0.3", zone: "a" };
    },
    [/^warning .*zone a/],
  ],
  [
    "a lowering without effect",
    (d) => {
      edge(d).track = [{ interface: "eth0", lower: 5 }];
    },
    [/^warning .*lower: 5 never changes/],
  ],
  [
    "a lowering with effect",
    (d) => {
      edge(d).track = [{ interface: "eth0", lower: 20 }];
    },
    [],
  ],
  [
    "version 2, sub-second",
    (d) => {
      edge(d).version = 2;
    },
    [/version 2 counts in whole seconds/],
  ],
  [
    "version 2, IPv6",
    (d) => {
      edge(d).version = 2;
      edge(d).interval = "1s";
      member(d).addresses = ["10.0.0.1", ...six];
    },
    [/addresses\[1\]: version 2 knows IPv4 only/, /addresses\[2\]: version 2 knows IPv4 only/],
  ],
  [
    "15 ms",
    (d) => {
      edge(d).interval = "15ms";
    },
    [/a multiple of 10ms/],
  ],
  [
    "a short lease",
    (d) => {
      edge(d).interval = "1s";
      edge(d).lease = "3s";
    },
    [/lease of 3s runs out/],
  ],
  [
    "a long enough lease",
    (d) => {
      edge(d).interval = "1s";
      edge(d).lease = "5s";
    },
    [],
  ],
  [
    "a lease in fractions",
    (d) => {
      edge(d).lease = "2500ms";
    },
    [/cannot count a lease of 2500ms/],
  ],
  [
    "an interface name",
    (d) => {
      member(d).interface = "a-name-that-is-too-long";
    },
    [/cannot be an interface's name/],
  ],
  [
    "an interface per node",
    (d) => {
      member(d).interface = { lb1: "eth0", lb2: "ens3" };
    },
    [],
  ],
  [
    "an interface missing",
    (d) => {
      member(d).interface = { lb1: "eth0", lb7: "x" };
    },
    [/no interface is given for lb2/, /no node "lb7"/],
  ],
  [
    "a VRID twice",
    (d) => {
      edge(d).members.push({ interface: "eth0", vrid: 51, addresses: ["10.0.0.9"] });
    },
    [/members\[2\].vrid: VRID 51 is used twice for IPv4 on eth0 of lb1/],
  ],
  [
    "a VRID in both families",
    (d) => {
      edge(d).members.push({ interface: "eth0", vrid: 51, addresses: [...six] });
    },
    [],
  ],
  [
    "an address twice",
    (d) => {
      edge(d).members.push({ interface: "eth2", vrid: 9, addresses: ["10.0.0.1"] });
    },
    [/members\[2\].addresses\[0\]: 10.0.0.1 is already/],
  ],
  [
    "one link-local address on two links",
    (d) => {
      member(d).addresses = ["10.0.0.1", ...six];
      edge(d).members.push({ interface: "eth2", vrid: 51, addresses: ["fe80::200:5eff:fe00:233"] });
    },
    [],
  ],
  [
    "a multicast address",
    (d) => {
      member(d).addresses.push("224.0.0.18");
    },
    [/multicast/],
  ],
  [
    "no IPv4 advertised",
    (d) => {
      edge(d).members.push({
        interface: "eth2",
        vrid: 9,
        addresses: [{ address: "10.9.0.1", advertise: false }],
      });
    },
    [/no IPv4 address of this member is advertised/],
  ],
  [
    "unicast",
    (d) => {
      edge(d).transport = "unicast";
    },
    [],
  ],
  [
    "unicast alone",
    (d) => {
      edge(d).transport = "unicast";
      edge(d).priorities = { lb1: 1 };
      d.nodes = { lb1: { address: "10.1.0.2" } };
    },
    [/unicast needs another node/, /only lb1/],
  ],
  [
    "unicast of the other family",
    (d) => {
      edge(d).transport = "unicast";
      member(d).addresses = ["10.0.0.1", ...six];
    },
    [/node lb1 has no IPv6/, /node lb2 has no IPv6/],
  ],
  [
    "one peer address of two nodes",
    (d) => {
      edge(d).transport = "unicast";
      member(d).peers = { lb1: ["10.0.0.2"], lb2: ["10.0.0.2"] };
    },
    [/10.0.0.2 is a peer address of both/],
  ],
  [
    "peers with multicast",
    (d) => {
      member(d).peers = { lb1: ["10.0.0.2"], lb8: ["10.0.0.3"] };
    },
    [/no node "lb8"/, /^warning .*no effect/],
  ],
  [
    "a track of no pool",
    (d) => {
      edge(d).track = [{ pool: "app" }];
    },
    [/track\[0\].pool: there is no pool "app"/],
  ],
  [
    "a track of too many backends",
    (d) => {
      edge(d).track = [{ pool: "apps", atLeast: 3 }];
    },
    [/has only 2 backends/],
  ],
  [
    "a gateway of another family",
    (d) => {
      edge(d).track = [{ gateway: ["2001:db8::9"] }];
    },
    [/no IPv6 address/],
  ],
  [
    "a late script",
    (d) => {
      edge(d).track = [{ script: ["true"], timeout: "5s" }];
    },
    [/^warning .*longer than the interval/],
  ],
  [
    "no backends",
    (d) => {
      pool(d).backends = {};
    },
    [/has no backend/],
  ],
  [
    "a backend twice",
    (d) => {
      pool(d).backends["b"] = "10.1.0.11:80";
    },
    [/already backend app1/],
  ],
  [
    "weights of 0",
    (d) => {
      pool(d).backends = { a: { address: "10.1.0.11:80", weight: 0 } };
    },
    [/^warning .*takes new connections/],
  ],
  [
    "no check",
    (d) => {
      delete pool(d).check;
    },
    [/^warning .*no check/],
  ],
  [
    "a late check",
    (d) => {
      pool(d).check = { tcp: true, interval: "1s", timeout: "2s" };
    },
    [/^warning .*timeout of 2s/],
  ],
  [
    "statuses",
    (d) => {
      pool(d).check = { http: "/", status: "300-200" };
    },
    [/not a range of HTTP statuses/],
  ],
  [
    "an idle server name",
    (d) => {
      pool(d).check = { http: "/", sni: "a" };
    },
    [/^warning .*sni has no effect/],
  ],
  [
    "a TLS server name of a plain TCP check",
    (d) => {
      pool(d).check = { tcp: true, sni: "a" };
    },
    [/^warning .*sni has no effect/],
  ],
  [
    "bytes that are none",
    (d) => {
      pool(d).check = { udp: true, send: "1b0", expect: "PONG", hex: true };
    },
    [
      /^pools.apps.check.send: found "1b0", expected pairs of hexadecimal digits, since hex is true$/,
      /^pools.apps.check.expect: found "PONG", expected pairs of hexadecimal digits, since hex is true$/,
    ],
  ],
  [
    "an unused pool",
    (d) => {
      d.pools["b"] = { backends: { x: "10.1.0.1:1" }, check: { tcp: true } };
    },
    [/^warning pools.b: nothing uses/],
  ],
  [
    "a foreign address",
    (d) => {
      d.services["web"] = { on: "edge", listen: "10.0.0.7:80/tcp", forward: { pool: "apps" } };
    },
    [/10.0.0.7 is no virtual address of edge/],
  ],
  [
    "overlapping ports",
    (d) => {
      d.services["b"] = {
        on: "edge",
        listen: ["10.0.0.1:70-90/tcp", "10.0.0.1:80/udp"],
        forward: { pool: "apps" },
      };
    },
    [/b.listen\[0\]: 10.0.0.1:70-90\/tcp overlaps with 10.0.0.1:80\/tcp/],
  ],
  [
    "a foreign masquerade",
    (d) => {
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:80/tcp",
        forward: { pool: "apps", masquerade: "10.1.0.2" },
      };
    },
    [/masquerade: 10.1.0.2 is no virtual address/],
  ],
  [
    "IPv6 to IPv4",
    (d) => {
      member(d).addresses.push(...six);
      d.services["b"] = { on: "edge", listen: "[2001:db8::1]:80/tcp", forward: { pool: "apps" } };
    },
    [/no IPv6 backend/],
  ],
  [
    "a masquerade of the other family",
    (d) => {
      member(d).addresses.push(...six);
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:80/tcp",
        forward: { pool: "apps", masquerade: "2001:db8::1" },
      };
    },
    [/cannot stand for clients of 10.0.0.1:80/],
  ],
  [
    "a loop",
    (d) => {
      pool(d).backends["self"] = "10.0.0.1:80";
    },
    [/backend self is service web itself/],
  ],
  [
    "a route to nowhere",
    (d) => {
      d.services["b"] = { listen: "10.1.0.2:81/tcp", proxy: { routes: [{ pool: { apps: 0, appz: 0 } }] } };
    },
    [/routes\[0\].pool.appz: there is no pool/, /sum to 0/],
  ],
  [
    "a lab of unknown names",
    (d) => {
      d.lab = {
        networks: { front: "10.0.0.0/24" },
        nodes: { lb3: { eth0: { network: "front" } }, lb1: { eth5: { network: "frond" } } },
        clients: { c: { network: "back" } },
      };
    },
    [
      /lab.nodes.lb3: there is no node/,
      /lb1.eth5.network: there is no network "frond"/,
      /clients.c.network: there is no/,
    ],
  ],
  [
    "clients that stay, by address and port, or by address in a range",
    (d) => {
      const affinity = { timeout: "30m" };
      const on = "edge";
      d.services["web"] = { on, listen: "10.0.0.1:443/tcp", forward: { pool: "apps", affinity } };
      d.services["range"] = { on, listen: "10.0.0.1:80-90/tcp", forward: { pool: "apps", affinity } };
    },
    [],
  ],
  [
    "clients that stay, but whom no node is told of",
    (d) => {
      const affinity = { timeout: "30m" };
      const on = "edge";
      d.flows = { keys: "keys" };
      d.services["web"] = {
        on,
        listen: "10.0.0.1:80/tcp",
        forward: { pool: "apps", affinity, flows: "hashed" },
      };
      d.services["off"] = {
        on,
        listen: "10.0.0.1:81/udp",
        forward: { pool: "apps", affinity, flows: "off" },
      };
    },
    [
      /web.forward.flows: hashed is not possible here: with affinity/,
      /warning services.off.forward.affinity/,
    ],
  ],
  [
    "clients that stay at a range whose ports are not the backends'",
    (d) => {
      const affinity = { timeout: "30m" };
      const on = "edge";
      d.services["web"] = { on, listen: "10.0.0.1:5000-5009/tcp", forward: { pool: "apps", affinity } };
      d.services["two"] = {
        on,
        listen: ["10.0.0.1:80-90/tcp", "10.0.0.1:443/tcp"],
        forward: { pool: "apps", affinity },
      };
    },
    [
      /web.forward.affinity: backend app1 does not keep the ports of 10.0.0.1:5000-5009\/tcp/,
      /two.forward.affinity: 10.0.0.1:443\/tcp leads to another port/,
    ],
  ],
  [
    "direct server return",
    (d) => {
      const forward = { pool: "apps", mode: "direct", scheduler: "source" } as const;
      d.services["web"] = { on: "edge", listen: ["10.0.0.1:80/tcp", "10.0.0.1:80-90/udp"], forward };
    },
    [],
  ],
  [
    "direct server return with what needs a changed packet, or both halves of a connection",
    (d) => {
      const limits = { sourceConnections: 5 };
      const affinity = { timeout: "30m" };
      const forward = { pool: "apps", mode: "direct", scheduler: "smooth", masquerade: "10.0.0.4" } as const;
      const on = "edge";
      d.services["web"] = { on, listen: "10.0.0.1:443/tcp", forward: { ...forward, limits, affinity } };
      d.services["more"] = {
        on,
        listen: "10.0.0.4:80/tcp",
        forward: { pool: "apps", mode: "direct", flows: "hashed" },
      };
    },
    [
      /forward.scheduler: mode: direct is not possible with smooth/,
      /forward.masquerade: mode: direct/,
      /forward.affinity: mode: direct/,
      /forward.limits: mode: direct/,
      /web.forward.mode: backend app1 is at port 80, but its packets come to the port of 10.0.0.1:443\/tcp/,
      /more.forward.flows: mode: direct is not possible with flows/,
    ],
  ],
  [
    "hashed connections that every node can find by itself",
    (d) => {
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:80/tcp",
        forward: { pool: "apps", flows: "hashed" },
      };
    },
    [],
  ],
  [
    "hashed connections of a backend that serves two",
    (d) => {
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:80/tcp",
        forward: { pool: "apps", flows: "hashed" },
      };
      d.services["more"] = { on: "edge", listen: "10.0.0.4:80/tcp", forward: { pool: "apps" } };
    },
    [/services.web.forward.flows: hashed is not possible here: backend 10.1.0.11:80\/tcp also serves more/],
  ],
  [
    "hashed connections that nodes choose differently",
    (d) => {
      pool(d).slowStart = "10s";
      d.services["web"] = {
        on: "edge",
        listen: ["10.0.0.1:80/tcp", "10.0.0.4:80-90/tcp"],
        forward: { pool: "apps", flows: "hashed", scheduler: "smooth", masquerade: "10.1.0.1" },
      };
      pool(d).backends["app3"] = "10.1.0.13:81";
    },
    [/scheduler smooth/, /masquerade/, /slowStart/, /10.0.0.1:80\/tcp and/, /ports of 10.0.0.4:80-90\/tcp/],
  ],
  [
    "a loopback backend",
    (d) => {
      pool(d).backends["c"] = "127.0.0.1:80";
    },
    [/127.0.0.1 cannot be forwarded to/],
  ],
  [
    "two listeners of a node on one port",
    (d) => {
      d.flows = { keys: "keys", port: 7412 };
      d.certificates = { keys: "keys" };
    },
    ["certificates.port: 7412 is already the port of flows"],
  ],
  [
    "a proxy at a node's own address and on its port",
    (d) => {
      d.certificates = { keys: "keys" };
      d.services["own"] = { listen: "10.1.0.2:7412/tcp", proxy: { pool: "apps" } };
    },
    [/^services.own.listen\[0\]: 10.1.0.2:7412\/tcp is where lb1 listens for certificates/],
  ],
  [
    "a proxy at every address and on a node's port",
    (d) => {
      d.flows = { keys: "keys" };
      d.control = { keys: "keys", token: { env: "TOKEN" } };
      d.services["four"] = { listen: "0.0.0.0:7400-7411/tcp", proxy: { pool: "apps" } };
      d.nodes["lb2"] = { address: "2001:db8::3", zone: "b" };
      d.services["six"] = { listen: "[::]:7411/tcp", proxy: { pool: "apps" } };
    },
    [
      /^services.four.listen\[0\]: .* for control/,
      /^services.four.listen\[0\]: .* for flows/,
      /^services.six.listen\[0\]: .* for flows/,
    ],
  ],
  [
    "a proxy at a virtual address or another port",
    (d) => {
      d.certificates = { keys: "keys" };
      d.services["own"] = { listen: "10.1.0.2:7410/tcp", proxy: { pool: "apps" } };
      d.services["api"] = { on: "edge", listen: "10.0.0.1:7412/tcp", proxy: { pool: "apps" } };
    },
    [],
  ],
  [
    "a certificate that is proved where the service does not listen",
    (d) => {
      d.certificates = { keys: "keys" };
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:8443/tcp",
        proxy: { pool: "apps", tls: { acme: { names: ["shop.example"], acceptTerms: true } } },
      };
    },
    [/^warning services.web.proxy.tls.acme.challenge: .*port 443/],
  ],
  [
    "a certificate that is proved by HTTP where none is spoken",
    (d) => {
      d.certificates = { keys: "keys" };
      const acme = { names: ["shop.example"], acceptTerms: true as const, challenge: "http-01" as const };
      d.services["web"] = { on: "edge", listen: "10.0.0.1:443/tcp", proxy: { pool: "apps", tls: { acme } } };
      d.services["stream"] = { on: "edge", listen: "10.0.0.1:80/tcp", proxy: { tcp: { pool: "apps" } } };
    },
    [/^warning services.web.proxy.tls.acme.challenge: .*port 80/],
  ],
  [
    "a certificate that is proved by HTTP",
    (d) => {
      d.certificates = { keys: "keys" };
      const acme = { names: ["shop.example"], acceptTerms: true as const, challenge: "http-01" as const };
      d.services["web"] = { on: "edge", listen: "10.0.0.1:8443/tcp", proxy: { pool: "apps", tls: { acme } } };
      d.services["plain"] = { on: "edge", listen: "10.0.0.1:80/tcp", proxy: { pool: "apps" } };
    },
    [],
  ],
  [
    "more shared certificates than nodes tell each other of",
    (d) => {
      d.certificates = { keys: "keys" };
      for (let i = 0; i < 257; i++)
        d.services[`s${i}`] = {
          listen: `10.9.${i >> 8}.${i & 255}:443/tcp`,
          proxy: { pool: "apps", tls: { acme: { names: ["shop.example"], acceptTerms: true } } },
        };
    },
    [/^certificates: 257 services .* nodes share 256 at most/],
  ],
  [
    "a pair that orders a certificate each",
    (d) => {
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:443/tcp",
        proxy: { pool: "apps", tls: { acme: { names: ["shop.example"], acceptTerms: true } } },
      };
    },
    [/^warning services.web.proxy.tls.acme: each of lb1, lb2 orders its own certificate/],
  ],
  [
    "a pair that shares its certificate",
    (d) => {
      d.certificates = { keys: "keys" };
      d.services["web"] = {
        on: "edge",
        listen: "10.0.0.1:443/tcp",
        proxy: { pool: "apps", tls: { acme: { names: ["shop.example"], acceptTerms: true } } },
      };
    },
    [],
  ],
  [
    "a track without rest",
    (d) => {
      edge(d).track = [
        { script: ["true"], interval: "0s", timeout: "0s" },
        { gateway: ["10.0.0.9"], interval: "1us", timeout: "1us" },
      ];
    },
    [/track\[0\].timeout: an interval of 0s/, /track\[1\].interval: an interval of 0.001ms/],
  ],
];

describe("cross-checks", () => {
  it.each(cases)("%s", (_, change, expected) => {
    const found = told(change);
    expect(found, found.join("\n")).toHaveLength(expected.length);
    for (const wanted of expected)
      expect(
        found.some((line) => (typeof wanted === "string" ? line.includes(wanted) : wanted.test(line))),
        found.join("\n"),
      ).toBe(true);
  });
});
