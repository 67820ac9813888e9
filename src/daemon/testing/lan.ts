/** Hosts on bridges, each a namespace: what a pair of nodes stands between. Everything goes with `close`. */
import { spawn, spawnSync } from "node:child_process";
import { NetworkNamespace } from "../../linux/namespace.ts";
import { inside } from "./real-node.ts";

export class Lan {
  readonly #hosts = new Map<string, NetworkNamespace>();

  static async open(...bridges: readonly string[]): Promise<Lan> {
    const lan = new Lan();
    const namespace = lan.#make("switch");
    for (const bridge of bridges) {
      await inside(namespace, "ip", "link", "add", bridge, "type", "bridge");
      await inside(namespace, "ip", "link", "set", bridge, "up");
    }
    return lan;
  }
  host(name: string): NetworkNamespace {
    const found = this.#hosts.get(name);
    if (found === undefined) throw new Error(`no host ${name}`);
    return found;
  }
  /** Runs a shell command on a host. Throws with what it said. */
  on(name: string, command: string): string {
    const done = this.host(name).run(() => spawnSync("bash", ["-c", command], { encoding: "utf8" }));
    if (done.status !== 0) throw new Error(`${name}: ${command}: ${done.stderr}`);
    return done.stdout;
  }
  /** The host (made where there is none) gets `device` on the bridge, with these addresses (with prefix lengths). */
  async plug(name: string, device: string, bridge: string, ...addresses: readonly string[]): Promise<void> {
    const host = this.#hosts.get(name) ?? this.#make(name);
    const port = `${name}-${device}`;
    const fd = `/proc/${process.pid}/fd/${host.descriptor}`;
    await inside(
      this.host("switch"),
      "ip",
      ...`link add ${port} type veth peer name ${device} netns ${fd}`.split(" "),
    );
    this.on("switch", `ip link set ${port} master ${bridge} up`);
    this.on(
      name,
      `sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.${device}.accept_dad=0
       ip link set lo up; ip link set ${device} up
       ${addresses.map((one) => `ip addr add ${one} dev ${device} ${one.includes(":") ? "nodad" : ""}`).join("\n")}`,
    );
  }
  start(name: string, command: string, ...args: readonly string[]): ReturnType<typeof spawn> {
    return this.host(name).run(() => spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] }));
  }
  close(): void {
    for (const namespace of this.#hosts.values()) namespace.close();
  }

  #make(name: string): NetworkNamespace {
    const namespace = NetworkNamespace.create();
    this.#hosts.set(name, namespace);
    return namespace;
  }
}
