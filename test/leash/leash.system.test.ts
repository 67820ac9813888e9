import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";

const leash = new URL("../../scripts/leash.mjs", import.meta.url).href;
const MARK = `NINES_LEASH_TEST=${process.pid}`;
const [name = "", value = ""] = MARK.split("=");

/** What tests leave behind when nobody stops them: daemons, addresses, a table, a named namespace. */
const litter = `
ip link add leash0 type veth peer name leash1 && ip address add 192.0.2.1/32 dev leash0
ip netns add leash && nft add table ip leash
sleep 600 & setsid sleep 601 & setsid setsid sleep 602 &
echo up`;
const runner = (then: string): string => `
import { endOnSignals, ended, leashed, within } from ${JSON.stringify(leash)};
endOnSignals();
process.exit(await ended(leashed([...within({ network: true }), "sh", "-c", ${JSON.stringify(`${litter}; ${then}`)}])));`;

const able =
  spawnSync(process.execPath, [
    "--input-type=module",
    "-e",
    `import { within } from ${JSON.stringify(leash)}; process.exit(within({ network: true }).length > 0 ? 0 : 1);`,
  ]).status === 0 && spawnSync("nft", ["--version"]).status === 0;

function processes(): string[] {
  return readdirSync("/proc").filter((entry) => {
    try {
      return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/environ`, "utf8").includes(`${MARK}\0`);
    } catch {
      return false;
    }
  });
}
/** Of this machine's own network: nothing of it may ever be seen here. */
const outside = (): string[] =>
  [
    ["ip", "-o", "address"],
    ["ip", "netns"],
    ["nft", "list", "tables"],
  ].flatMap(([command = "", ...args]) =>
    spawnSync(command, args, { encoding: "utf8" })
      .stdout.split("\n")
      .filter((line) => line.includes("leash")),
  );

let child: ChildProcess | undefined;
afterEach(() => void child?.kill("SIGKILL"));

async function run(then: string): Promise<ChildProcess> {
  child = spawn(process.execPath, ["--input-type=module", "-e", runner(then)], {
    env: { ...process.env, [name]: value },
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  if (child.stdout) await once(child.stdout, "data");
  return child;
}
const nothingLeft = (): Promise<void> =>
  vi.waitFor(() => expect([processes(), outside()]).toEqual([[], []]), { timeout: 15_000, interval: 50 });

describe.skipIf(!able)("a run of the tests leaves no process, namespace, address or table", () => {
  it("when it comes to its end", async () => {
    const runs = await run("exit 3");
    const [code] = (await once(runs, "exit")) as [number];
    expect(code).toBe(3);
    await nothingLeft();
  });

  it.each(["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"] as const)("when it is ended by %s", async (signal) => {
    const runs = await run("sleep 603");
    expect(processes().length).toBeGreaterThan(4);
    expect(outside()).toEqual([]);
    runs.kill(signal);
    await nothingLeft();
  });
});
