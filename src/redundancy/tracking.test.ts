import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { ip } from "../base/addresses.ts";
import { SystemClock } from "../base/system-clock.ts";
import { ms, seconds } from "../base/time.ts";
import { VirtualClock } from "../base/virtual-clock.ts";
import type { Link } from "../linux/wire-link.ts";
import { Tracker, type TrackerOptions } from "./tracking.ts";

const nowhere = {} as TrackerOptions["rtnetlink"];
let told: string[] = [];
const tell = (name: string, good: boolean, reason: string): void =>
  void told.push(`${name} ${good} ${reason}`);
const linksWith = (link: () => Partial<Link> | undefined) => ({ link }) as unknown as TrackerOptions["links"];
const noLinks = linksWith(() => undefined);
afterEach(() => (told = []));

describe("a tracked gateway", () => {
  const gateway = {
    name: "gateway",
    kind: "gateway",
    targets: [ip("10.0.0.254"), ip("10.0.0.253")],
    interval: seconds(1),
    timeout: ms(500),
    fall: 3,
    rise: 2,
  } as const;
  it("fails after `fall` silent rounds in a row, when no target answers, and recovers after `rise`", async () => {
    const clock = new VirtualClock();
    let answering: readonly string[] = gateway.targets;
    const asked: string[] = [];
    const tracker = new Tracker([gateway], {
      clock,
      rtnetlink: nowhere,
      links: noLinks,
      onTrack: tell,
      ask: (target) => {
        asked.push(target);
        return Promise.resolve(answering.includes(target));
      },
    });
    const rounds = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        for (let turn = 0; turn < 10; turn++) await Promise.resolve();
        clock.advance(seconds(1));
      }
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    };
    tracker.start();
    await rounds(3);
    expect([told, asked.length > 4]).toEqual([[], true]);
    // One of the two is enough.
    answering = [gateway.targets[1]];
    await rounds(5);
    expect(told).toEqual([]);
    answering = [];
    await rounds(2);
    answering = gateway.targets;
    await rounds(1);
    answering = [];
    await rounds(2);
    expect(told).toEqual([]);
    await rounds(1);
    expect(told).toEqual(["gateway false 10.0.0.254 10.0.0.253 did not answer 3 times in a row"]);
    answering = gateway.targets;
    await rounds(1);
    expect(told).toHaveLength(1);
    await rounds(1);
    expect(told.at(-1)).toBe("gateway true 10.0.0.254 10.0.0.253 answers");
    const before = asked.length;
    tracker.stop();
    await rounds(5);
    expect(asked.length).toBe(before);
  });
});

describe("a tracked process", () => {
  let child: ChildProcess | undefined;
  let directory = "";
  afterEach(() => {
    child?.kill("SIGKILL");
    if (directory !== "") rmSync(directory, { recursive: true, force: true });
  });
  it("is found by its name, cut by the kernel after 15 bytes, and missed when it ends", async () => {
    directory = mkdtempSync(join(tmpdir(), "nines-track-"));
    const name = `nines-tracked-${process.pid}`;
    symlinkSync("/bin/sleep", join(directory, name));
    const tracker = new Tracker([{ name: "process", kind: "process", process: name }], {
      clock: new SystemClock(),
      rtnetlink: nowhere,
      links: noLinks,
      onTrack: tell,
    });
    tracker.start();
    try {
      await vi.waitFor(() => expect(told).toEqual(["process false no such process"]), 10_000);
      child = spawn(join(directory, name), ["60"], { stdio: "ignore" });
      await vi.waitFor(() => expect(told.at(-1)).toBe(`process true process ${child?.pid}`), 10_000);
      child.kill("SIGKILL");
      await vi.waitFor(() => expect(told.at(-1)).toBe("process false no such process"), 10_000);
    } finally {
      tracker.stop();
    }
  });
});

it("a tracked interface fails while it is missing, down or without a carrier", () => {
  let link: Partial<Link> | undefined;
  const tracker = new Tracker([{ name: "eth1", kind: "interface", interface: "eth1" }], {
    clock: new VirtualClock(),
    rtnetlink: nowhere,
    links: linksWith(() => link),
    onTrack: tell,
  });
  tracker.start();
  for (link of [
    { up: false, running: false },
    { up: true, running: false },
    // The kernel speaks of links more often than they change.
    { up: true, running: false },
    { up: true, running: true },
    { up: true, running: true },
  ])
    tracker.linksChanged();
  tracker.stop();
  expect(told).toEqual([
    "eth1 false it does not exist",
    "eth1 false it is down",
    "eth1 false no carrier",
    "eth1 true up",
  ]);
});
