import { describe, expect, it } from "vitest";
import { siteSchema } from "../../config/schema/site.ts";
import { haproxyConfig, superviseScript } from "./haproxy-config.ts";

const site = siteSchema.parse({
  site: "shop",
  nodes: { lb1: { address: "10.0.0.2" } },
  virtualRouters: {
    edge: {
      priorities: { lb1: 110 },
      members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] }],
    },
  },
  pools: {
    apps: {
      backends: { app1: "10.0.0.11:8080", app2: "10.0.0.12:8080" },
      check: { http: "/healthz", interval: "500ms", rise: 2, fall: 3 },
    },
  },
  services: {
    web: { listen: "10.0.0.2:80/tcp", proxy: { routes: [{ pool: "apps" }] } },
    plain: { on: "edge", listen: "10.0.0.1:81/tcp", forward: { pool: "apps" } },
  },
});

describe("HAProxy beside keepalived", () => {
  it("serves the proxied services with the site's checks, at addresses that may be elsewhere", () => {
    const config = haproxyConfig(site);
    expect(config).toContain("frontend web\n  bind 10.0.0.2:80 transparent\n  default_backend web\n");
    expect(config).toContain("  option httpchk GET /healthz\n");
    expect(config).toContain("  server app2 10.0.0.12:8080 check inter 500ms rise 2 fall 3\n");
    expect(config).not.toContain("plain");
  });

  it("tells keepalived as soon as it ends, and is started again", () => {
    const lines = superviseScript("/usr/sbin/haproxy", "/x/haproxy.cfg", "/x/served").split("\n");
    expect(lines.indexOf("  echo 1 > /x/served")).toBe(lines.indexOf("  wait $!") + 1);
  });
});
