/** An example per section of the reference; a test loads each as what it says it is. */
export const examples: Readonly<Record<string, string>> = {
  "nodes.NAME": `
nodes:
  lb1: { address: 10.1.0.2, zone: a }
  lb2: { address: 10.1.0.3, zone: b }
`,
  "virtualRouters.NAME": `
virtualRouters:
  edge:
    priorities: { lb1: 110, lb2: 100 }
    interval: 100ms
    preempt: { delay: 1m }
    members:
      - { interface: eth0, vrid: 51, addresses: [10.0.0.1, "2001:db8::1"] }
      - { interface: { lb1: eth1, lb2: ens4 }, vrid: 52, addresses: [10.1.0.1] }
`,
  "virtualRouters.NAME.track[]": `
virtualRouters:
  edge:
    priorities: { lb1: 110, lb2: 100 }
    members: [{ interface: eth0, vrid: 51, addresses: [10.0.0.1] }]
    track:
      - { interface: eth1 }
      - { gateway: [10.0.0.254], interval: 500ms, fall: 3 }
      - { pool: apps, atLeast: 2, lower: 20 }
      - { process: named, lower: 20 }
      - { script: [/usr/local/bin/uplink-is-good], interval: 2s, timeout: 1s }
`,
  "pools.NAME": `
pools:
  apps:
    backends:
      app1: 10.1.0.11:8080
      app2: { address: "10.1.0.12:8080", weight: 2 }
      app3: { address: "10.1.0.13:8080", maintenance: true }
    check: { tcp: true }
    allDown: last
`,
  "pools.NAME.check": `
pools:
  apps:
    backends: { app1: "10.1.0.11:8080" }
    check: { http: /healthz, host: shop.example, status: 200-299, body: ready, interval: 1s, rise: 2, fall: 3 }
  secure:
    backends: { app1: "10.1.0.11:8443" }
    check: { http: /healthz, tls: true, sni: shop.example, verify: false }
  caches:
    backends: { r1: "10.1.0.31:6379" }
    check: { tcp: true, send: "PING\\r\\n", expect: +PONG }
  resolvers:
    backends: { d1: "10.1.0.41:53" }
    check: { dns: shop.example, type: SOA, interval: 1s }
  clocks:
    backends: { n1: "10.1.0.51:123" }
    check: { udp: true, send: "1b0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000", hex: true }
  queue:
    backends: { q1: "10.1.0.21:5672" }
    check: { exec: [/usr/local/bin/queue-is-good, --quick], interval: 10s, timeout: 5s }
`,
  "services.NAME": `
services:
  web: { on: edge, listen: 10.0.0.1:80/tcp, forward: { pool: apps } }
  media: { on: edge, listen: ["10.0.0.1:5000-5010/udp", "10.0.0.1:5060/tcp"], forward: { pool: media } }
`,
};
