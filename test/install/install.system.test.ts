import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

// Installs, upgrades and removes nines with the commands of the guide, in a root of its own without a network.
const here = import.meta.dirname;
const repository = fileURLToPath(new URL("../../", import.meta.url));
const read = (file: string): string => readFileSync(join(repository, file), "utf8");
const possible =
  process.getuid?.() === 0 &&
  existsSync(join(repository, "dist/cli/main.js")) &&
  /\boverlay\b/.test(readFileSync("/proc/filesystems", "utf8")) &&
  spawnSync("unshare", ["-mn", "true"]).status === 0;

/** The commands between `<!-- install: NAME -->` and its end, which are the same in the README where it has them. */
function commands(file: string, name: string): string {
  const block = new RegExp(`<!-- install: ${name} -->\\s+\`\`\`sh\\n([\\s\\S]*?)\`\`\`\\s+<!-- /install -->`);
  return block.exec(read(file))?.[1] ?? "";
}
const start = "docs/guide/getting-started.md";
const operations = "docs/guide/operations.md";

const site = `site: first
nodes: { lb1: { address: 10.9.0.2 } }
pools: { apps: { backends: { app1: "127.0.0.1:8080" }, check: { tcp: true } } }
services: { web: { listen: "10.9.0.2:8000/tcp", proxy: { pool: apps } } }
`;

/** What the guide cannot have: no network for npm, no systemd, a second version. */
const script = `set -eu
cd /run/repository
npm_ci() { :; }
${commands(start, "build").replace("npm ci", "npm_ci")}
mkdir /tmp/node && mv nines-*.tar.gz /tmp/node/ && cd /tmp/node
systemctl() { if [ "$1" = kill ]; then kill -USR2 "$node"; else echo "systemctl $*"; fi; }
${commands(start, "node")}
cat > /etc/nines/site.yaml <<'END'
${site}END
cd /
nines check /etc/nines/site.yaml --node lb1
nines doctor /etc/nines/site.yaml --node lb1 --json | grep -c native_missing || true
mount -t tmpfs tmpfs /var/lib
nines run /etc/nines/site.yaml --node lb1 --runtime /run/nines/lb1 --state /var/lib/nines/lb1 > /tmp/log &
node=$!
until_version() {
  for i in $(seq 200); do
    if nines status --json 2> /dev/null | grep -q "\\"version\\": *\\"$1\\""; then echo "runs $1"; return; fi
    sleep 0.2
  done
  cat /tmp/log
}
until_version 0.1.0
cd /tmp/node && mkdir new && tar -xzf nines-*.tar.gz -C new && rm nines-*.tar.gz
sed -i 's/"version": "0.1.0"/"version": "0.1.1"/' new/nines-0.1.0/package.json
tar -czf nines-0.1.1-linux-x64.tar.gz -C new nines-0.1.0
${commands(operations, "upgrade")}
until_version 0.1.1
kill "$node"
wait "$node"
${commands(operations, "remove")}
ls -d /opt/nines /usr/bin/nines /etc/nines /etc/systemd/system/nines@.service 2>&1 | grep -vc "No such file" || true
echo done
`;

describe.skipIf(!possible)("the commands of the guide", () => {
  it("install, upgrade a running node and remove, in another folder", { timeout: 180_000 }, () => {
    for (const [file, name] of [
      [start, "build"],
      [start, "node"],
      [operations, "upgrade"],
      [operations, "remove"],
    ] as const)
      expect(commands(file, name), name).not.toBe("");
    const directory = mkdtempSync(join(tmpdir(), "nines-install-"));
    try {
      const file = join(directory, "script");
      writeFileSync(file, script);
      const inside = mkdtempSync(join(directory, "root-"));
      const { status, stdout, stderr } = spawnSync(
        "unshare",
        ["-mnpf", "--kill-child", "--mount-proc", "bash", join(here, "root.sh"), inside, repository, file],
        { encoding: "utf8", timeout: 170_000 },
      );
      const lines = stdout.split("\n");
      expect(stdout + stderr).toContain("done");
      expect(status).toBe(0);
      expect(lines).toContain("0.1.0");
      expect(stdout).toContain("site.yaml: good; site first: 1 node");
      expect(stdout).toMatch(/runs 0\.1\.0\n[\s\S]*runs 0\.1\.1\n/);
      // Nothing says native_missing, and nothing is left.
      expect(lines.filter((line) => line === "0").length).toBe(2);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it("and its firewall is one that nft takes", () => {
    const rules = /```nft\n([\s\S]*?)```/.exec(read(operations))?.[1] ?? "";
    expect(rules).toContain("dport 5112");
    const { stdout, stderr } = spawnSync("unshare", ["-n", "nft", "-c", "-f", "-"], {
      input: rules,
      encoding: "utf8",
    });
    expect(stdout + stderr).toBe("");
  });

  it("are those of the README", () => {
    const readme = read("README.md");
    const bare = (text: string): string[] =>
      text
        .split("\n")
        .map((line) => line.replace(/ +#.*$/, ""))
        .filter((line) => line !== "" && line !== "nines --version");
    for (const name of ["build", "node"])
      for (const line of bare(commands(start, name))) expect(bare(readme)).toContain(line);
  });
});
