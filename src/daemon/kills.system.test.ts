import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:http";
import { type Socket, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import { type RealNode, type Wire, alive, inside } from "./testing/real-node.ts";
import { SingleNode, apps, edgeSite, forwardApps } from "./testing/sites.ts";

// One node with every kind of process; its clients and backends are at the other end of the wire.
let single: SingleNode;
let wire: Wire;
let node: RealNode;
let keys = "";
const sockets = new Set<Socket>();

const site = (): SiteInput =>
  edgeSite(
    { a: "10.9.0.2", b: "10.9.0.4" },
    {
      pools: {
        apps,
        pages: { backends: { one: "10.9.0.3:8003" }, check: { ...apps.check, tcp: undefined, http: "/" } },
      },
      services: {
        web: forwardApps,
        site: { on: "edge", listen: "10.9.0.1:8080/tcp", proxy: { routes: [{ pool: "pages" }] } },
      },
      flows: { keys },
    },
  );

beforeEach(async () => {
  keys = mkdtempSync(join(tmpdir(), "nines-keys-"));
  single = await SingleNode.open();
  ({ wire, node } = single);
  const echo = () =>
    createTcpServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {}).write("hello\n");
      socket.pipe(socket);
    });
  for (const port of [8001, 8002]) single.serve(port, echo());
  single.serve(
    8003,
    createServer((_, response) => response.end("page\n")),
  );
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await single.close();
  rmSync(keys, { recursive: true, force: true });
});

const patient = { timeout: 40_000, interval: 250 };
const available = process.getuid?.() === 0 && existsSync("/usr/bin/openssl") && existsSync("/usr/bin/socat");

describe.skipIf(!available)("a node one of whose processes is killed", () => {
  const forwarded = (): Promise<string> =>
    inside(wire.second, "sh", "-c", "socat -t 1 - TCP:10.9.0.1:80,connect-timeout=2 </dev/null | head -1");
  const page = (): Promise<string> => inside(wire.second, "curl", "-s", "-m", "3", "http://10.9.0.1:8080/");
  const serves = async (): Promise<void> => {
    expect(await forwarded()).toBe("hello\n");
    expect(await page()).toBe("page\n");
  };

  it("starts it again, and serves on: redundancy, flows, proxy, its spare and brain, each alone and all at once", async () => {
    await makeKeys(keys, "shop", ["a", "b"]);
    node.write(site());
    node.start("a");
    await vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), patient);
    await vi.waitFor(serves, patient);
    // A connection that is there before, and talks after every kill.
    const lasting = join(node.directory, "talk");
    await inside(wire.second, "mkfifo", lasting);
    const heard = join(node.directory, "heard");
    const talk = inside(wire.second, "sh", "-c", `socat - TCP:10.9.0.1:80 <${lasting} >${heard}`).catch(
      () => "",
    );
    const mouth = openSync(lasting, "r+");
    try {
      let said = "hello\n";
      const says = async (word: string): Promise<void> => {
        writeSync(mouth, `${word}\n`);
        said += `${word}\n`;
        await vi.waitFor(() => expect(readFileSync(heard, "utf8")).toBe(said), patient);
      };
      await says("before");
      const kinds = ["brain", "flows", "proxy", "proxy-spare", "redundancy"];
      await vi.waitFor(() => {
        const running = node.processes().filter(({ phase }) => phase === "running");
        expect([...new Set(running.map(({ name }) => name))].sort()).toEqual(kinds);
      }, patient);
      for (const victims of [...kinds.map((kind) => [kind]), kinds]) {
        const before = node.processes().filter(({ name }) => victims.includes(name));
        const pids = before.flatMap(({ pid }) => pid ?? []);
        for (const pid of pids) process.kill(pid, "SIGKILL");
        await vi.waitFor(() => {
          const now = node.processes();
          expect(now.every(({ phase }) => phase === "running")).toBe(true);
          expect(now.some(({ pid }) => pid !== undefined && pids.includes(pid))).toBe(false);
          expect(now.filter(({ name }) => victims.includes(name)).length).toBe(before.length);
        }, patient);
        await vi.waitFor(serves, patient);
        await says(victims.join("-and-"));
      }
    } finally {
      closeSync(mouth);
    }
    await talk;
    await vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), patient);
  }, 240_000);

  it("serves on a disk that is full, says so, and writes again when there is room", async () => {
    const { flows: _, ...rest } = site();
    const { site: __, ...services } = rest.services ?? {};
    node.write({ ...rest, services });
    const state = join(node.directory, "state");
    mkdirSync(state);
    // In a mount namespace of the node's own: it ends with its processes.
    node.wrapper = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && exec "$@"', state];
    node.start("a");
    await vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), patient);
    const seen = join(`/proc/${node.pid}/root`, state);
    const full = join(seen, "full");
    for (let size = 65_536; size >= 1; size = Math.floor(size / 2)) {
      try {
        writeFileSync(full, Buffer.alloc(size), { flag: "a" });
      } catch {
        // As much as fits.
      }
    }
    const names = async (): Promise<string[]> => (await node.status()).alarms.map(({ name }) => name);
    node.write({ ...rest, services, pools: { ...rest.pools, more: { backends: { one: "10.9.0.3:8003" } } } });
    expect(await node.ask("POST", "/v1/reload", {})).toMatchObject({ ok: true });
    await vi.waitFor(async () => expect(await names()).toContain("state_unwritable"), patient);
    expect((await node.status()).pools).toHaveLength(3);
    expect(await forwarded()).toBe("hello\n");
    // Also for processes that start meanwhile.
    const brain = node.pidOf("brain");
    process.kill(brain, "SIGKILL");
    process.kill(node.pidOf("redundancy"), "SIGKILL");
    await vi.waitFor(async () => {
      expect(node.pidOf("brain")).not.toBe(brain);
      expect((await node.status()).routers[0]?.state).toBe("active");
      expect(await names()).toContain("state_unwritable");
    }, patient);
    await vi.waitFor(async () => expect(await forwarded()).toBe("hello\n"), patient);
    rmSync(full);
    await vi.waitFor(async () => {
      expect(await names()).not.toContain("state_unwritable");
      expect(await names()).not.toContain("accounts_failing");
    }, patient);
    expect(alive(node.pid)).toBe(true);
  }, 180_000);
});
