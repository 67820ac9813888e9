// IPv4 and IPv6 side by side, computed: one list of backends gives both pools.
import { defineSite } from "nines";

const apps = { app1: 11, app2: 12, app3: 13 };

const check = { http: "/healthz", interval: "1s", timeout: "800ms" };
const four = Object.fromEntries(Object.entries(apps).map(([app, host]) => [app, `10.1.0.${host}:8080`]));
const six = Object.fromEntries(
  Object.entries(apps).map(([app, host]) => [app, `[2001:db8:1::${host}]:8080`]),
);

export default defineSite({
  site: "dual-stack",
  nodes: {
    lb1: { address: "10.1.0.2", zone: "a" },
    lb2: { address: "10.1.0.3", zone: "b" },
  },
  virtualRouters: {
    edge: {
      priorities: { lb1: 110, lb2: 100 },
      interval: "100ms",
      members: [
        // A virtual router of IPv6 also has a link-local address (RFC 9568, 5.2.9); it is made from the VRID.
        {
          interface: "eth0",
          vrid: 51,
          addresses: ["10.0.0.1", "2001:db8::1"],
        },
        {
          interface: "eth1",
          vrid: 52,
          addresses: ["10.1.0.1", "2001:db8:1::1"],
        },
      ],
    },
  },
  pools: {
    apps4: { backends: four, check },
    apps6: { backends: six, check },
  },
  services: {
    web4: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps4" } },
    web6: { on: "edge", listen: "[2001:db8::1]:80/tcp", forward: { pool: "apps6" } },
  },
});
