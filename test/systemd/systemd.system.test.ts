import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";

// The unit file under a real systemd, which is PID 1 of its own namespaces over this machine's programs.
const here = import.meta.dirname;
const repository = fileURLToPath(new URL("../../", import.meta.url));
const possible =
  process.getuid?.() === 0 &&
  existsSync("/usr/lib/systemd/systemd") &&
  /\boverlay\b/.test(readFileSync("/proc/filesystems", "utf8")) &&
  /\bcgroup2\b/.test(readFileSync("/proc/filesystems", "utf8"));
const patient = { timeout: 40_000, interval: 200 };

/** All processes below this one. */
function below(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    return children.filter((each) => each !== "").flatMap((each) => [Number(each), ...below(Number(each))]);
  } catch {
    return [];
  }
}

describe.skipIf(!possible)("the unit under systemd", () => {
  let directory = "";
  let outer: ChildProcess;
  let init = 0;
  let works = false;
  const inside = (...command: string[]): string => {
    const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const into = ["-t", String(init), "-m", "-p", "-n", "-C", "-u", "-i", "-r", "-w", "env", "-i", path];
    return execFileSync("nsenter", [...into, ...command], { encoding: "utf8", timeout: 60_000 });
  };
  const tried = (...command: string[]): string => {
    try {
      return inside(...command);
    } catch (error) {
      return (error as { stdout?: string }).stdout ?? "";
    }
  };
  const unit = "nines@lb1";
  const mainPid = (): string => inside("systemctl", "show", "-P", "MainPID", unit).trim();
  const address = (): boolean =>
    inside("ip", "-4", "address", "show", "dev", "wire0").includes("10.9.0.1/32");
  const events = (name: string): string[] =>
    inside("journalctl", "-u", unit, "-o", "cat", "--no-pager")
      .split("\n")
      .filter((line) => line.includes(`"event":"${name}"`));
  /** How often this node became Active. */
  const active = (): number =>
    events("vrrp.state_changed").filter((line) => line.includes('"to":"active"')).length;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "nines-systemd-"));
    outer = spawn(
      "setpriv",
      [
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--fork",
        "--kill-child",
        "bash",
        join(here, "boot.sh"),
        directory,
        repository,
      ],
      { stdio: "ignore" },
    );
    for (let i = 0; i < 150 && outer.exitCode === null && !works; i++) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      const pids = below(outer.pid ?? 0);
      const comm = (pid: number): string => {
        try {
          return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
        } catch {
          return "";
        }
      };
      init = pids.find((pid) => comm(pid) === "systemd") ?? 0;
      works = init !== 0 && tried("systemctl", "is-system-running").trim() === "running";
    }
  }, 60_000);
  afterAll(async () => {
    if (init !== 0) process.kill(init, "SIGKILL");
    if (outer.exitCode === null && outer.signalCode === null) {
      outer.kill("SIGKILL");
      await once(outer, "exit");
    }
    // The control groups outlive their processes.
    const sweep =
      'mount -t cgroup2 cgroup2 "$0" && for i in 1 2 3 4 5; do find "$0/$(basename "$0")" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.3; done';
    execFileSync("unshare", ["--mount", "sh", "-c", `${sweep}; true`, directory], { stdio: "ignore" });
    rmSync(directory, { recursive: true, force: true });
  });

  beforeEach((context) => context.skip(!works, "systemd does not run as PID 1 of a namespace here"));

  it("starts, tells systemd so, and serves with no capability but those of the unit", async () => {
    expect(inside("systemd-analyze", "verify", "/etc/systemd/system/nines@.service").trim()).toBe("");
    inside("systemctl", "start", unit);
    expect(inside("systemctl", "is-active", unit).trim()).toBe("active");
    await vi.waitFor(() => expect(address()).toBe(true), patient);
    const status = inside("cat", `/proc/${mainPid()}/status`);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    const bounding = BigInt(`0x${/^CapBnd:\t([0-9a-f]+)$/m.exec(status)?.[1] ?? ""}`);
    // For access logs, beside all else that is read-only.
    expect(inside("stat", "-c", "%a", "/var/log/nines").trim()).toBe("750");
    // CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_OVERRIDE.
    expect([21n, 19n, 1n].map((bit) => (bounding >> bit) & 1n)).toEqual([0n, 0n, 0n]);
  });

  it("restarts without the address leaving, also with a site file that became wrong", async () => {
    const monitor = spawn(
      "nsenter",
      ["-t", String(init), "-n", "ip", "-4", "monitor", "address", "dev", "wire0"],
      { stdio: ["ignore", "pipe", "ignore"] },
    );
    let seen = "";
    monitor.stdout.on("data", (part: Buffer) => (seen += part.toString()));
    try {
      for (const site of ["as it was", "wrong"]) {
        if (site === "wrong") inside("sh", "-c", "echo 'site: [' > /etc/nines/site.yaml");
        const [before, served] = [mainPid(), active()];
        seen = "";
        inside("systemctl", "restart", unit);
        expect(mainPid()).not.toBe(before);
        await vi.waitFor(() => expect(active()).toBe(served + 1), patient);
        await vi.waitFor(() => expect(seen).toContain("10.9.0.1/32"), patient);
        expect([address(), seen.includes("Deleted")]).toEqual([true, false]);
      }
    } finally {
      monitor.kill();
    }
    inside("cp", "/usr/lib/nines/test/systemd/site.yaml", "/etc/nines/site.yaml");
    inside("systemctl", "reload", unit);
    await vi.waitFor(() => expect(events("site.reloaded").length).toBeGreaterThan(0), patient);
  });

  it("comes again after a kill -9 of its main process", async () => {
    const before = mainPid();
    inside("kill", "-KILL", before);
    await vi.waitFor(() => {
      expect(mainPid()).not.toBe(before);
      expect([inside("systemctl", "is-active", unit).trim(), address()]).toEqual(["active", true]);
    }, patient);
  });

  it("leaves no address, table, process or runtime file when it is stopped", () => {
    inside("systemctl", "stop", unit);
    expect(tried("systemctl", "is-active", unit).trim()).toBe("inactive");
    expect([address(), inside("nft", "list", "tables").trim()]).toEqual([false, ""]);
    expect(tried("pgrep", "nines")).toBe("");
    const runtime = `/proc/${init}/root/run/nines`;
    expect(existsSync(runtime) ? readdirSync(runtime) : []).toEqual([]);
  });
});
