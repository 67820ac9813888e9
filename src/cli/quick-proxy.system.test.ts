import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";

const root = new URL("../../", import.meta.url).pathname;
const compiled = existsSync(join(root, "dist/cli/main.js"));
const able = compiled && spawnSync("unshare", ["-n", "ip", "link", "set", "lo", "up"]).status === 0;

/** Two backends that say which one they are; then the command of the guide, whose ports are those of its text. */
const program = (command: string): string => `
ip link set lo up
for port in 3000 3001; do
  node -e 'require("http").createServer((q, r) => r.end("from " + process.argv[1] + "\\n")).listen(process.argv[1])' $port &
done
until_up() {
  for i in $(seq 300); do
    if curl -s -m 5 -o /dev/null http://127.0.0.1:$1/; then return; fi
    sleep 0.1
  done
}
until_up 3000
until_up 3001
${command} &
proxy=$!
until_up 8080
for i in 1 2 3 4 5 6; do curl -s -m 10 -w '%{http_code} ' http://127.0.0.1:8080/path; done
kill $proxy
wait $proxy
echo "exit $?"
`;

let child: ChildProcess | undefined;
let scratch = "";
afterEach(() => {
  child?.kill("SIGKILL");
  if (scratch !== "") rmSync(scratch, { recursive: true, force: true });
});

describe("nines proxy, for a first try without a site file", () => {
  it.skipIf(!able)("works as the README and the guide write it", { timeout: 120_000 }, async () => {
    scratch = mkdtempSync(join(tmpdir(), "nines-quick-"));
    const path = join(scratch, "run.sh");
    const [readme = "", guide = ""] = ["README.md", "docs/guide/proxy.md"].map((file) =>
      readFileSync(join(root, file), "utf8"),
    );
    const command = /^nines proxy .*$/m.exec(readme)?.[0] ?? "";
    expect(command).toMatch(/--to 3000 --to 3001 --listen 8080$/);
    expect(guide).toContain(command);
    // An installed program, as far as a shell can tell.
    const main = join(root, "dist/cli/main.js");
    writeFileSync(join(scratch, "nines"), `#!/bin/sh\nexec node ${main} "$@"\n`, { mode: 0o755 });
    writeFileSync(path, `PATH=${scratch}:$PATH\n${program(command)}`);
    // A network and a process tree of its own: the ports are free, and everything ends with the test.
    child = spawn("timeout", ["100", "unshare", "-mnpf", "--kill-child", "--mount-proc", "sh", path], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    child.stdout?.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr?.on("data", (chunk: Buffer) => (out += chunk.toString()));
    await new Promise((resolve) => child?.once("close", resolve));
    expect(out).toContain("listening on 0.0.0.0:8080");
    // Six answers, by both.
    expect(out.match(/from 300[01]\n200 /g)?.length, out).toBe(6);
    expect(out).toContain("from 3000");
    expect(out).toContain("from 3001");
    expect(out).toContain("exit 0");
  });
});
