import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import type { DrillReport, DrillRun, ProbeOutcome } from "../contracts/drills.ts";
import { labRefused, runningLabs, startLab } from "./outer.ts";
import { findProgram } from "./shell.ts";

const refused = labRefused() ?? (findProgram("nft") === undefined ? "nft is not installed" : undefined);
const peer = refused ?? (findProgram("keepalived") === undefined ? "keepalived is not installed" : undefined);
const SITE = new URL("../../examples/two-tier/site.yaml", import.meta.url).pathname;
const cli = (...args: string[]): string[] => [
  "--import",
  import.meta.resolve("tsx"),
  new URL("../cli/main.ts", import.meta.url).pathname,
  ...args,
];

/** Processes, threads of namespaces and links of this host that a lab could have left behind. */
function traces(): string[] {
  const inLab = readdirSync("/proc").filter((entry) => {
    try {
      return (
        /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/environ`, "utf8").includes(`NINES_LAB=${MARK}`)
      );
    } catch {
      return false;
    }
  });
  const links = spawnSync(findProgram("ip") ?? "ip", ["-o", "link"], { encoding: "utf8" }).stdout;
  return [...inLab, ...links.split("\n").filter((line) => /br-front|lb1-eth/.test(line))];
}
/** Marks the labs of this run, so that others on the machine are none of its business. */
const MARK = `test-${process.pid}`;

const started: ChildProcess[] = [];
afterEach(async () => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  for (const { name, pid } of runningLabs()) if (name.startsWith(MARK)) process.kill(pid, "SIGKILL");
  await sleep(50);
});

async function until(what: () => boolean, within = 10_000): Promise<boolean> {
  for (let waited = 0; waited < within; waited += 50) {
    if (what()) return true;
    await sleep(50);
  }
  return what();
}

/** A process that holds a lab as `nines drill` does, in its own process group. */
async function holder(name: string): Promise<{ child: ChildProcess; lab: number }> {
  const code = `const { startLab } = await import(${JSON.stringify(new URL("./outer.ts", import.meta.url).href)});
    startLab(${JSON.stringify(name)}, ["sh", "-c", "mount -t tmpfs tmpfs /run && ip netns add x; sleep 600 & sleep 601"]);
    setInterval(() => {}, 1000);`;
  const child = spawn(
    process.execPath,
    ["--import", import.meta.resolve("tsx"), "--input-type=module", "-e", code],
    {
      detached: true,
      stdio: "ignore",
    },
  );
  started.push(child);
  await until(() => runningLabs().some((one) => one.name === name));
  const lab = runningLabs().find((one) => one.name === name);
  if (lab === undefined) throw new Error("the lab did not start");
  return { child, lab: lab.pid };
}

describe.skipIf(refused !== undefined)("a lab", () => {
  it("is gone without a trace after kill -9 of the process that runs it", async () => {
    const { child } = await holder(`${MARK}-kill`);
    expect(traces().length).toBeGreaterThan(0);
    child.kill("SIGKILL");
    await until(() => traces().length === 0);
    expect(traces()).toEqual([]);
  });

  it("is gone after kill -9 of unshare, and of its own first process", async () => {
    const { lab } = await holder(`${MARK}-inner`);
    process.kill(lab, "SIGKILL");
    await until(() => traces().length === 0);
    const again = await holder(`${MARK}-outer`);
    const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${again.lab}/status`, "utf8"))?.[1];
    process.kill(Number(parent), "SIGKILL");
    await until(() => traces().length === 0);
    expect(traces()).toEqual([]);
  });

  it("is gone when the process that runs it is interrupted, and nothing else is told", async () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-lab-"));
    const site = join(directory, "site.yaml");
    writeFileSync(site, readFileSync(SITE, "utf8").replace(/^site: .*$/m, `site: ${MARK}-int`));
    const child = spawn(process.execPath, cli("lab", "up", site), { stdio: "ignore" });
    started.push(child);
    expect(await until(() => runningLabs().some(({ name }) => name === `${MARK}-int`))).toBe(true);
    child.kill("SIGINT");
    await until(() => traces().length === 0);
    expect(traces()).toEqual([]);
    rmSync(directory, { recursive: true });
  });

  it("measures an outage of known length within an interval, and tells errors apart", async () => {
    const script = new URL("./testing/outage.ts", import.meta.url).pathname;
    const child = startLab(
      `${MARK}-outage`,
      [process.execPath, "--import", import.meta.resolve("tsx"), script, "400"],
      ["ignore", "pipe", "inherit"],
    );
    started.push(child);
    let said = "";
    child.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
    await new Promise((resolve) => child.on("close", resolve));
    const { made, lag, outcomes } = JSON.parse(said) as {
      made: number;
      lag: number;
      outcomes: ProbeOutcome[];
    };
    const of = (stream: string): ProbeOutcome => {
      const found = outcomes.find((one) => one.stream === stream);
      if (found === undefined) throw new Error(`no outcome of ${stream}`);
      return found;
    };
    // Two intervals: one at each end; nft itself takes a few ms to switch, and the prober's own lag.
    const slack = 20 + 25 + lag;
    for (const stream of ["connect", "udp", "http"]) {
      const [first] = of(stream).gaps;
      expect(
        Math.abs((first?.to ?? 0) - (first?.from ?? 0) - made),
        `${stream} ${JSON.stringify(first)}`,
      ).toBeLessThan(slack);
      expect(first?.error).toBe("timeout");
    }
    expect(Object.keys(of("elsewhere").errors)).toContain("wrong-server");
    expect(of("elsewhere").good).toBe(0);
    expect(Object.keys(of("closed").errors)).toContain("refused");
    // The killed backend resets what was established, and refuses what is new; the prober goes on.
    for (const stream of ["client-first", "server-first"]) {
      expect(of(stream).established).toMatchObject({ before: 10, kept: 0 });
      expect(of(stream).gaps[0]?.error).toBe("timeout");
      expect((of(stream).errors["reset"] ?? 0) + (of(stream).errors["closed"] ?? 0)).toBe(10);
    }
    expect(of("connect").errors["refused"]).toBeGreaterThan(0);
  });
});

describe.skipIf(peer !== undefined)("drills, with keepalived as the subject", () => {
  it("measure a power cut, write all reports, and leave nothing", () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      cli("drill", SITE, "power-cut", "brain-killed", "--subject", "keepalived", "--json"),
      { encoding: "utf8" },
    );
    expect(stderr).toBe("");
    const { runs } = JSON.parse(stdout) as {
      runs: { drill: string; verdict: string; probes: ProbeOutcome[] }[];
    };
    const cut = runs.find(({ drill }) => drill === "power-cut");
    const connect = cut?.probes.find(({ kind }) => kind === "connect");
    // keepalived waits for three missed advertisements of 100 ms: a run without a gap would have cut nothing.
    expect(connect?.longestGap).toBeGreaterThan(150);
    expect(runs.find(({ drill }) => drill === "brain-killed")?.verdict).toBe("skipped");
    expect(status).toBe(cut?.verdict === "passed" ? 0 : 1);
    expect(runningLabs().filter(({ name }) => name.startsWith("drill-"))).toEqual([]);
  });
});

/** Runs drills in a lab of their own, so that others may go on beside it. */
async function report(...args: string[]): Promise<DrillReport> {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, cli("drill", ...args, "--json"), {
    maxBuffer: 2 ** 27,
  }).catch((error: unknown) => error as { stdout: string; stderr: string });
  expect(stderr).toBe("");
  return JSON.parse(stdout) as DrillReport;
}

/** What each fault must have done to keepalived, so that a drill that breaks nothing is found out. */
const EFFECTS: { readonly [drill: string]: (run: DrillRun, gap: number) => boolean } = {
  switchover: (run) => run.takeovers === 1,
  failback: (run) => run.takeovers === 1,
  "kill-all": (run) => run.timeline.some(({ lane, what }) => lane === `role ${run.node}` && what === "off"),
  "power-cut": (run, gap) => gap > 150 && run.noOwner > 150,
  "link-down-front": (run, gap) => gap > 0 && run.takeovers === 1,
  "link-down-back": (run, gap) => gap > 0 && run.takeovers === 1,
  "link-flap": (_, gap) => gap > 0,
  hang: (run) => run.takeovers >= 1 && run.twoOwners > 1000,
  "adverts-one-way": (run) => run.twoOwners > 500,
  partition: (run) => run.twoOwners > 500,
  "address-deleted": (run) => run.noOwner > 0,
  // Nobody repairs the peer's rules.
  "ruleset-flushed": (_, gap) => gap > 2000,
  "foreign-mark": (run) => run.verdict === "passed",
  "forward-drop": (_, gap) => gap > 2000,
  "hung-resolver": (run) => run.probes.length === 8 && run.probes.every(({ kind }) => kind === "resolver"),
  starvation: (run) => run.healedAt > 5000,
};

describe.skipIf(peer !== undefined || findProgram("stress-ng") === undefined)("every fault", () => {
  const shows = async (names: readonly string[]): Promise<void> => {
    const { runs } = await report(SITE, ...names, "--subject", "keepalived", "--minutes", "0.1");
    const without = runs.flatMap((run) => {
      const gap = Math.max(0, ...run.probes.map(({ longestGap }) => longestGap));
      if (EFFECTS[run.drill]?.(run, gap)) return [];
      return [`${run.drill}: gap ${gap}, ${JSON.stringify({ ...run, probes: [], timeline: [] })}`];
    });
    expect(without).toEqual([]);
    expect(runs.map(({ drill }) => drill)).toEqual(names);
  };
  // One takes the processors from everybody, the other is judged by its budget: nothing is beside them.
  const alone = ["foreign-mark", "starvation"];
  // The others mostly wait, so that four labs at once are no load; a second try repeats only one of them.
  const names = Object.keys(EFFECTS).filter((name) => !alone.includes(name));
  const quarters = [0, 1, 2, 3].map((nth) => names.filter((_, i) => i % 4 === nth));
  const each = quarters.map((some) => [some.join(", "), some] as const);
  it.concurrent.each(each)(
    "does to keepalived what its name says: %s",
    { timeout: 300_000 },
    async (_, some) => shows(some),
  );

  it("does to keepalived what its name says: foreign-mark, starvation", { timeout: 120_000 }, () =>
    shows(alone),
  );
});

describe.skipIf(refused !== undefined)("nines", () => {
  it("keeps its budgets when killed, cut off from power and switched over", { timeout: 120_000 }, () => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      cli("drill", SITE, "switchover", "kill-all", "power-cut", "--json"),
      { encoding: "utf8", maxBuffer: 2 ** 27 },
    );
    expect(stderr).toBe("");
    const { runs } = JSON.parse(stdout) as DrillReport;
    // A machine that stalls the prober itself measures its own stalls: such a run is no verdict on nines.
    const judged = runs.filter(({ proberLag }) => proberLag < 50);
    expect(
      judged.flatMap(({ drill, reason }) => (reason === undefined ? [] : [`${drill}: ${reason}`])),
    ).toEqual([]);
    expect(runs.map(({ drill, takeovers }) => [drill, takeovers])).toEqual([
      ["switchover", 1],
      ["kill-all", 1],
      ["power-cut", 1],
    ]);
  });
});

/** What a run shows however slow the machine is: the fault was felt by class, the addresses moved, clients are served again. */
async function drilled(
  site: string,
  drills: readonly string[],
  ...more: string[]
): Promise<readonly DrillRun[]> {
  const file = new URL(`../../examples/${site}/site.yaml`, import.meta.url).pathname;
  const { runs } = await report(file, ...drills, ...more);
  expect(runs.map(({ drill }) => drill)).toEqual(drills);
  for (const run of runs) {
    expect(run.reason ?? "", run.drill).not.toMatch(/did not (serve|settle)/);
    expect(
      run.probes.map(({ kind }) => kind),
      run.drill,
    ).toEqual(["connect", "http"]);
    for (const { good, errors } of run.probes) {
      expect(good).toBeGreaterThan(0);
      // Nobody answers wrongly, whatever dies.
      expect(Object.keys(errors)).not.toContain("wrong-server");
    }
  }
  return runs;
}
const failures = ({ probes }: DrillRun): number =>
  probes.reduce((sum, { sent, good }) => sum + sent - good, 0);

// None of them judges a time: all three labs at once.
describe.skipIf(refused !== undefined).concurrent("sites with proxies", () => {
  it(
    "hand over at the classic pair when the proxies die, and when asked to",
    { timeout: 300_000 },
    async () => {
      const [moved, killed] = await drilled("classic-pair", ["switchover", "proxy-killed"]);
      expect(moved?.takeovers).toBeGreaterThan(0);
      expect(killed?.takeovers).toBeGreaterThan(0);
      expect(killed === undefined ? 0 : failures(killed)).toBeGreaterThan(0);
    },
  );

  it.skipIf(peer !== undefined || findProgram("haproxy") === undefined)(
    "have HAProxy and keepalived in their place",
    { timeout: 300_000 },
    async () => {
      const [, killed] = await drilled(
        "classic-pair",
        ["switchover", "proxy-killed"],
        "--subject",
        "haproxy",
      );
      expect(killed?.takeovers).toBeGreaterThan(0);
      expect(killed === undefined ? 0 : failures(killed)).toBeGreaterThan(0);
    },
  );

  it(
    "go on behind the forwarder without a proxy, and without a forwarder",
    { timeout: 300_000 },
    async () => {
      const [cut, killed] = await drilled("proxies-behind-forwarder", ["power-cut", "proxy-killed"]);
      expect(cut?.takeovers).toBeGreaterThan(0);
      expect(killed?.node).toBeDefined();
      for (const run of [cut, killed]) expect(run === undefined ? 0 : failures(run)).toBeGreaterThan(0);
    },
  );
});
