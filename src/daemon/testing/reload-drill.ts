import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { SiteInput } from "../../config/schema/site.ts";
import type { LoadOptions, LoadResult } from "../../proxy/testing/load.ts";
import type { NetworkNamespace } from "../../linux/namespace.ts";
import { type RealNode, inside } from "./real-node.ts";

export const AT = "127.0.0.1:8080";
export const BACKENDS = ["127.0.0.1:9001", "127.0.0.1:9002"];

/** The `number`th site of a series: routes, weights, pools and listeners come and go. */
export function siteNumber(number: number): SiteInput {
  const even = number % 2 === 0;
  const [one = "", two = ""] = BACKENDS;
  return {
    site: "shop",
    nodes: { a: { address: "10.255.255.1" } },
    pools: {
      apps: {
        backends: { one: { address: one, weight: 1 + (number % 3) }, two },
        check: { tcp: true, interval: "1s" },
      },
      ...(even ? {} : { extra: { backends: { one } } }),
    },
    services: {
      web: {
        listen: [`${AT}/tcp`, ...(number % 10 === 5 ? ["127.0.0.1:8081/tcp"] : [])],
        proxy: {
          routes: [
            ...(even ? [] : [{ match: { path: "/extra" }, pool: "extra" }]),
            { name: "apps", pool: "apps", ...(even ? {} : { responseHeaders: { set: { "x-odd": "1" } } }) },
          ],
        },
      },
    },
  };
}

/** Backends and a steady load in a process of their own, inside the node's namespace. */
export class Load {
  readonly #child: ChildProcess;
  #text = "";

  constructor(namespace: NetworkNamespace, options: Omit<LoadOptions, "at">) {
    const file = join(import.meta.dirname, "../../proxy/testing/load.ts");
    const text = JSON.stringify({ at: AT, ...options });
    this.#child = namespace.run(() =>
      spawn(process.execPath, ["--import", "tsx", file, text], { stdio: ["pipe", "pipe", "inherit"] }),
    );
    this.#child.stdout?.on("data", (part: Buffer) => (this.#text += part.toString()));
  }

  async #says(word: string, within = 60_000): Promise<void> {
    for (let waited = 0; !this.#text.includes(word); waited += 50) {
      if (waited > within || this.#child.exitCode !== null)
        throw new Error(`the load did not say "${word}": ${this.#text}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  serving(): Promise<void> {
    return this.#says("serving");
  }
  async start(): Promise<void> {
    this.#child.stdin?.write("go\n");
    await this.#says("loading");
  }
  async end(): Promise<LoadResult> {
    this.#child.stdin?.end();
    await this.#says("}");
    return JSON.parse(this.#text.slice(this.#text.indexOf("{"))) as LoadResult;
  }
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** A node that serves, its backends, and a load on it: what the reload drills begin with. */
export async function beginLoad(
  namespace: NetworkNamespace,
  node: RealNode,
  rate: number,
  webSockets: number,
  more: Partial<LoadOptions> = {},
): Promise<Load> {
  await inside(namespace, "ip", "link", "set", "lo", "up");
  node.write(siteNumber(0));
  const load = new Load(namespace, { serve: BACKENDS, rate, webSockets, ...more });
  try {
    await load.serving();
    node.start("a");
    await until(async () => {
      const { proxy, pools } = await node.status();
      return (
        pools[0]?.healthy === 2 &&
        proxy !== undefined &&
        proxy.workers.length > 0 &&
        proxy.workers.every(({ state }) => state === "serving" || state === "spare")
      );
    }, "the node to serve");
    await load.start();
    return load;
  } catch (error) {
    load.kill();
    throw error;
  }
}

/** Polls; a machine under load takes its time. */
export async function until(
  good: () => Promise<boolean> | boolean,
  what: string,
  within = 60_000,
): Promise<void> {
  for (let waited = 0; ; waited += 100) {
    if (await attempt(good)) return;
    if (waited > within) throw new Error(`waited ${within} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function attempt(good: () => Promise<boolean> | boolean): Promise<boolean> {
  try {
    return await good();
  } catch {
    return false;
  }
}
