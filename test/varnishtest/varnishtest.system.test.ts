import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const here = new URL("./", import.meta.url).pathname;
const compiled = existsSync(join(here, "../../dist/index.js"));
// Without a file it complains of that; where it is not installed there is no status.
const able = compiled && spawnSync("varnishtest", [], { stdio: "ignore" }).error === undefined;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const cases = readdirSync(here)
  .filter((name) => name.endsWith(".vtc"))
  .map((name) => [/^vtest "(.*)"/m.exec(readFileSync(join(here, name), "utf8"))?.[1] ?? name, name] as const);

/** Client and backend are varnishtest's own, HTTP/2 frame by frame: another reading of the standards than ours. */
describe("varnishtest", () => {
  it.skipIf(!able).each(cases)("%s", { timeout: 200_000 }, async (_, name) => {
    const define = ["-D", `port=${await freePort()}`, "-D", `serve=${join(here, "serve.mjs")}`];
    const ran = spawnSync("varnishtest", ["-t", "150", ...define, join(here, name)], { encoding: "utf8" });
    expect(ran.status, `${ran.stdout.slice(-4000)}${ran.stderr}`).toBe(0);
  });
});
