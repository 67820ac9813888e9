import { describe, expect, it } from "vitest";
import { siteSchema } from "../../config/schema/site.ts";
import { planLab } from "../topology.ts";
import { dnatRules, keepalivedConfig } from "./keepalived-config.ts";

const site = siteSchema.parse({
  site: "shop",
  nodes: { lb1: { address: "10.0.0.2" }, lb2: { address: "10.0.0.3" } },
  virtualRouters: {
    edge: {
      priorities: { lb1: 110, lb2: 100 },
      interval: "100ms",
      transport: "unicast",
      members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1", "fd00:a::1"] }],
    },
  },
  pools: { apps: { backends: { app1: "10.0.0.11:8080", app2: "10.0.0.12:8080" } } },
  services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
  lab: { networks: { front: ["10.0.0.0/24", "fd00:a::/64"] } },
});
const planned = planLab(site);
const hosts = planned.ok ? planned.value.hosts : [];

describe("keepalived as the subject", () => {
  it("gets the site's routers: an instance per family, moving together, with the node's priority", () => {
    const config = hosts[0] ? keepalivedConfig(site, hosts[0], hosts) : "";
    expect(config).toContain("vrrp_sync_group edge {\n  group {\n    edge-0-v4\n    edge-0-v6\n");
    expect(config).toContain("virtual_router_id 51\n  priority 110\n  advert_int 0.1\n  nopreempt\n");
    expect(config).toContain("unicast_src_ip 10.0.0.2\n  unicast_peer {\n    10.0.0.3\n  }");
    expect(config).toContain("fd00:a::1/128 dev eth0");
  });

  it("gets a static choice of backends for each service", () => {
    expect(dnatRules(site)).toContain(
      "ip daddr 10.0.0.1 tcp dport 80 dnat ip to jhash ip saddr . tcp sport mod 2 seed 0x9 map { 0 : 10.0.0.11 . 8080, 1 : 10.0.0.12 . 8080 }",
    );
  });
});
