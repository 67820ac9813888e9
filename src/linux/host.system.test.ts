import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { closeListener, openListener } from "./listen.ts";
import { NetworkNamespace } from "./namespace.ts";
import { ordinary, realtime, realtimePriority } from "./realtime.ts";
import { readSysctl, writeSysctl } from "./sysctl.ts";
import type { ChildTask } from "./testing/child.ts";

const root = process.getuid?.() === 0;

function run(task: ChildTask, environment: Record<string, string> = {}): unknown {
  const file = join(import.meta.dirname, "testing/child.ts");
  const args = ["--expose-gc", "--import", "tsx", file, task];
  const options = { encoding: "utf8", timeout: 50_000, env: { ...process.env, ...environment } } as const;
  const { stdout, stderr, status } = spawnSync(process.execPath, args, options);
  if (status !== 0) throw new Error(`${task} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

const socketOf = (fd: number): string => readlinkSync(`/proc/self/fd/${fd}`);
async function until(met: () => boolean): Promise<void> {
  for (let i = 0; i < 250 && !met(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
}

describe.skipIf(!root)("this host", () => {
  let namespace: NetworkNamespace;
  beforeAll(() => {
    namespace = NetworkNamespace.create();
    namespace.enter();
    execFileSync("ip", ["link", "set", "lo", "up"]);
  });
  afterAll(() => namespace.close());

  it("a process spawned under real-time priority has it in all its threads, and ordinary takes it away", (test) => {
    const policy = () => spawnSync("cat", ["/proc/self/stat"], { encoding: "utf8" }).stdout.split(" ")[40];
    let refused = "";
    const there = realtime(20, policy, (why) => (refused = why.message));
    test.skip(refused !== "", refused);
    expect(there).toBe("2");
    expect(realtimePriority()).toBe(0);
    expect(realtime(20, () => ordinary(policy))).toBe("0");
    const child = realtime(20, () => run("scheduling")) as { policies: string[] };
    expect(child).toMatchObject({ priority: 20, locked: true });
    expect(child.policies.length).toBeGreaterThan(4);
    expect(new Set(child.policies)).toEqual(new Set(["2"]));
  });

  it("capabilities are given up in every thread and do not come back", () => {
    expect(run("dropping")).toEqual({
      threads: ["0000000000002400"],
      several: true,
      child: "0000000000002400",
      missing: ["CAP_NET_ADMIN (addresses, nftables, the connection table)"],
    });
  });

  it("what needs a capability that is missing says so", () => {
    expect(run("powerless")).toBe(
      "PERMISSION: packet socket: EPERM; it needs a capability that this process lacks",
    );
  });

  it("listeners with SO_REUSEPORT share a port evenly, may precede their address, and are inherited", async () => {
    const plan = { address: ip("127.0.0.1"), port: 8080, protocol: "tcp" as const };
    const hits = [0, 0];
    const servers = [openListener(plan), openListener(plan)].map((fd, i) =>
      createServer((socket) => {
        hits[i] = (hits[i] ?? 0) + 1;
        socket.end();
      }).listen({ fd }),
    );
    for (let i = 0; i < 60; i++)
      await new Promise((resolve) => connect(8080, "127.0.0.1").on("close", resolve).resume());
    expect((hits[0] ?? 0) + (hits[1] ?? 0)).toBe(60);
    expect(Math.min(...hits)).toBeGreaterThan(5);
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));

    const elsewhere = { address: ip("192.0.2.1"), port: 80, protocol: "tcp" as const };
    expect(() => openListener(elsewhere)).toThrow("tcp 192.0.2.1:80: bind: EADDRNOTAVAIL");
    const four = openListener({ ...elsewhere, freebind: true });
    const dns = { address: ip("2001:db8::1"), port: 53, protocol: "udp" as const };
    const six = openListener({ ...dns, freebind: true, transparent: true });
    const child = spawnSync("ls", ["-l", "/proc/self/fd"], {
      stdio: ["ignore", "pipe", "inherit", four],
      encoding: "utf8",
    });
    expect(child.stdout).toContain(` 3 -> ${socketOf(four)}`);
    expect(child.stdout).not.toContain(socketOf(six)); // closed on exec
    closeListener(four);
    closeListener(six);
  });

  it("settings are read, written and put back", () => {
    expect(readSysctl("net/ipv4/ip_forward")).toMatch(/^[01]$/);
    expect(writeSysctl("net/ipv4/ip_forward", "1")).toBe("0");
    expect(readSysctl("net/ipv4/ip_forward")).toBe("1");
    expect(readSysctl("net/ipv4/no_such_thing")).toBeUndefined();
    expect(() => writeSysctl("net/ipv4/no_such_thing", "1")).toThrow(/cannot set net\/ipv4\/no_such_thing/);
    expect(() => readSysctl("../version")).toThrow("not the name");
  });

  it("the service manager hears us", async () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-notify-"));
    const path = join(directory, "notify");
    const receive = `
      import os, socket, sys
      s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
      sys.stdout.write(s.recv(4096).decode())`.replaceAll(/^ {6}/gm, "");
    const listener = spawn("python3", ["-c", receive, path], { stdio: ["ignore", "pipe", "inherit"] });
    const heard: string[] = [];
    listener.stdout.on("data", (chunk: Buffer) => heard.push(chunk.toString()));
    await until(() => readdirSync(directory).includes("notify"));
    expect(run("notifying", { NOTIFY_SOCKET: path, WATCHDOG_USEC: "3000000" })).toEqual({
      sent: true,
      watchdog: 3000,
    });
    await until(() => heard.length > 0);
    expect(heard.join("")).toBe("READY=1\nSTATUS=zwölf");
    listener.kill();
    rmSync(directory, { recursive: true, force: true });
    expect(run("notifying", { NOTIFY_SOCKET: path })).toEqual({ sent: false });
  });

  it("100,000 sockets and watches opened and closed leave no descriptor and no memory behind", () => {
    const { grownMiB, descriptors } = run("leaking") as { grownMiB: number; descriptors: number };
    expect(descriptors).toBe(0);
    // A leaked watch is at least 250 bytes: 60,000 of them are 15 MB.
    expect(grownMiB).toBeLessThan(6);
  });

  it("a worker that ends with watches still started takes nobody with it", () => {
    expect(run("workers")).toEqual([0, 0, 0, 0, 0]);
  });

  it("a process with an idle netlink socket ends by itself", () => {
    expect(run("idle")).toBe(true);
  });
});
