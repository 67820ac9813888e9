import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { LoadResult } from "../../proxy/testing/load.ts";
import type { NetworkNamespace } from "../../linux/namespace.ts";
import { type RealNode, inside } from "./real-node.ts";
import { AT, BACKENDS, Load, beginLoad, until } from "./reload-drill.ts";

export interface Killed {
  readonly kills: number;
  readonly load: LoadResult;
  /** Errors of requests that may be sent twice and whose response had not begun. */
  readonly retriable: number;
  /** Of requests that may not be sent twice, and of responses that were cut short. */
  readonly others: number;
}

const sum = (errors: Readonly<Record<string, number>>, which: (name: string) => boolean): number =>
  Object.entries(errors).reduce((all, [name, count]) => all + (which(name) ? count : 0), 0);
const mayFail = (name: string): boolean => name.startsWith("post ") || name.startsWith("begun ");

/** kill -9 of one of two backends under load, in turn; each is back and healthy before the other one dies. */
export async function killBackends(
  namespace: NetworkNamespace,
  node: RealNode,
  rate: number,
  kills: number,
): Promise<Killed> {
  const started: Load[] = [];
  const serve = async (at: string): Promise<Load> => {
    const backend = new Load(namespace, { serve: [at], rate: 0, webSockets: 0 });
    started.push(backend);
    await backend.serving();
    return backend;
  };
  await inside(namespace, "ip", "link", "set", "lo", "up");
  try {
    const backends = await Promise.all(BACKENDS.map(serve));
    const load = await beginLoad(namespace, node, rate, 0, { serve: [], mixed: true });
    started.push(load);
    for (let i = 0; i < kills; i++) {
      const victim = i % backends.length;
      await sleep(1000);
      backends[victim]?.kill();
      await until(
        async () => (await node.status()).pools[0]?.healthy === 1,
        "the checks to miss the backend",
      );
      backends[victim] = await serve(BACKENDS[victim] ?? "");
      await until(async () => {
        const { pools, proxy } = await node.status();
        return pools[0]?.healthy === 2 && proxy?.ejected.length === 0;
      }, "the backend to be back");
    }
    const result = await load.end();
    return {
      kills,
      load: result,
      retriable: sum(result.errors, (name) => !mayFail(name)),
      others: sum(result.errors, mayFail),
    };
  } finally {
    for (const one of started) one.kill();
  }
}

export interface SlowLoris {
  readonly tool: "slowhttptest" | "sockets of our own";
  /** Most connections at once that the workers reported. */
  readonly held: number;
  readonly load: LoadResult;
  /** All workers together, PSS in bytes. */
  readonly memory: { readonly before: number; readonly most: number };
}

const SLOWHTTPTEST = ["/usr/bin/slowhttptest", "/usr/local/bin/slowhttptest"].find((path) =>
  existsSync(path),
);

/** A head that never ends, in pieces: what slowhttptest does, where it is not installed. */
const OWN = `
  const [host, port, count] = process.argv.slice(1);
  let open = 0;
  const more = setInterval(() => {
    for (let i = 0; i < 50 && open < Number(count); i++, open++) {
      const socket = require("node:net").connect(Number(port), host);
      socket.on("error", () => {});
      socket.write("GET / HTTP/1.1\\r\\nHost: slow\\r\\n");
      const drip = setInterval(() => socket.write("X-a: b\\r\\n"), 1000);
      socket.on("close", () => clearInterval(drip));
    }
    if (open >= Number(count)) clearInterval(more);
  }, 100);
  setInterval(() => {}, 1000);
`;

function attack(namespace: NetworkNamespace, sockets: number, seconds: number): ChildProcess {
  const [host = "", port = ""] = AT.split(":");
  const [program, args] =
    SLOWHTTPTEST === undefined
      ? [process.execPath, ["-e", OWN, host, port, String(sockets)]]
      : [
          SLOWHTTPTEST,
          [
            "-H",
            "-c",
            `${sockets}`,
            "-r",
            "500",
            "-i",
            "1",
            "-l",
            `${seconds}`,
            "-p",
            "10",
            "-u",
            `http://${AT}/`,
          ],
        ];
  return namespace.run(() => spawn(program, args, { stdio: "ignore" }));
}

function memory(node: RealNode): number {
  return node.processes().reduce((all, { name, pid }) => {
    if (name !== "proxy" || pid === undefined) return all;
    const text = readFileSync(join("/proc", String(pid), "smaps_rollup"), "utf8");
    return all + 1024 * Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
  }, 0);
}

/** Sockets whose heads never end, while others ask at an even rate. */
export async function slowLoris(
  namespace: NetworkNamespace,
  node: RealNode,
  rate: number,
  sockets: number,
  seconds: number,
): Promise<SlowLoris> {
  const load = await beginLoad(namespace, node, rate, 0);
  let child: ChildProcess | undefined;
  try {
    await sleep(3000);
    const before = memory(node);
    let [held, most] = [0, before];
    child = attack(namespace, sockets, seconds);
    for (let i = 0; i < seconds * 4; i++) {
      await sleep(250);
      most = Math.max(most, memory(node));
      const workers = (await node.status()).proxy?.workers ?? [];
      held = Math.max(
        held,
        workers.reduce((all, { connections }) => all + connections, 0),
      );
    }
    const result = await load.end();
    const tool = SLOWHTTPTEST === undefined ? "sockets of our own" : "slowhttptest";
    return { tool, held, load: result, memory: { before, most } };
  } finally {
    child?.kill("SIGKILL");
    load.kill();
  }
}
