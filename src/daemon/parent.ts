import { randomBytes } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { type Server, createServer } from "node:net";
import { join } from "node:path";
import { OperationalError, messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { SystemClock } from "../base/system-clock.ts";
import { type Clock, type DurationMs, addTime, ms } from "../base/time.ts";
import type { ProcessStatus } from "../contracts/api.ts";
import { CHILD_KINDS, type ChildKind } from "./children.ts";
import { listenUnix } from "./link.ts";
import { createLog } from "./log.ts";
import type { ChildMessage, ChildWish, ListenWish, StopMode } from "./messages-parent.ts";
import { Spare } from "./spare.ts";
import { type Failure, Slot, type SlotSetup, describeSlots, startChild } from "./supervisor.ts";

export interface ParentOptions {
  readonly site: string;
  readonly node: string;
  /** Directory of this node's sockets. */
  readonly runtime: string;
  /** Directory of what outlives a restart. */
  readonly state: string;
  /** Where the site file is wrong, the one accepted last runs; without it, a wrong one ends the node at its start. */
  readonly lastGood: boolean;
}

/** How the node ended: the exit status of `nines run`, and the reason where it could not start. */
export interface Ended {
  readonly status: number;
  readonly reason?: string;
}

/** Whose clients end with their sockets. */
const SERVING: readonly string[] = ["proxy", "dns"];

/** Of a child that says why it cannot start; see src/cli/exit-codes.ts. */
const EXIT_CONFIG = 3;
const EXIT_FAILED = 5;

/** What the parent needs of the kernel beyond Node. */
export interface ParentPorts {
  realtime<T>(priority: number, start: () => T, log: Log): T;
  /** A listening or bound socket with SO_REUSEPORT; the descriptor is closed on exec. Throws. */
  listen(wish: ListenWish): number;
  closeListener(fd: number): void;
  listenerHandle(fd: number): object;
  /** To the service manager (sd_notify); nothing where there is none. */
  notify(text: string): void;
  /** How often the service manager wants a sign of life, in ms; undefined for never. */
  readonly watchdog: DurationMs | undefined;
}

/** Runs the node until it is told to stop; answers how it ended. */
export async function runParent(options: ParentOptions, ports: ParentPorts): Promise<Ended> {
  await makeDirectory(options.runtime, "--runtime");
  await makeDirectory(options.state, "--state");
  const lock = createServer((socket) => socket.destroy());
  await listenUnix(lock, join(options.runtime, "parent.sock"));
  const parent = new Parent(options, ports, lock);
  return await parent.run();
}

async function makeDirectory(path: string, option: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new OperationalError(
      "FILE_UNREADABLE",
      `cannot make the directory ${path}: ${messageOf(error)}; choose another with ${option} or run as root`,
      { cause: error },
    );
  }
}

class Parent {
  readonly #options: ParentOptions;
  readonly #ports: ParentPorts;
  readonly #lock: Server;
  readonly #clock: Clock = new SystemClock();
  readonly #log: Log;
  /** In the order of starting. */
  readonly #slots = new Map<string, Slot>();
  readonly #spares = new Map<string, Spare>();
  readonly #finish: (ended: Ended) => void;
  readonly #finished: Promise<Ended>;
  #ready = false;
  /** Until the brain has said what the site asks for, nothing can be complete. */
  #wishesHeard = false;
  #end: Ended = { status: 0 };
  #upgrades: Slot[] = [];
  #stopping = false;
  #mode: StopMode = "release";
  /** Here, since this process outlives every worker, every brain, and every upgrade of both. */
  readonly #ticketSecret = randomBytes(32).toString("base64");
  #writing: Promise<void> | undefined;
  #dirty = false;

  constructor(options: ParentOptions, ports: ParentPorts, lock: Server) {
    this.#options = options;
    this.#ports = ports;
    this.#lock = lock;
    this.#log = createLog("parent", options.node);
    let finish: (ended: Ended) => void = () => {};
    this.#finished = new Promise((resolve) => (finish = resolve));
    this.#finish = finish;
  }

  async run(): Promise<Ended> {
    process.title = `nines: ${this.#options.node}`;
    process.on("SIGHUP", () => this.#brain()?.reload());
    process.on("SIGUSR2", () => this.#upgrade("SIGUSR2"));
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => this.#stop(signal));
    process.on("SIGQUIT", () => this.#restart("SIGQUIT"));
    this.#log.info({ event: "node.starting", site: this.#options.site, runtime: this.#options.runtime });
    this.#start("brain", 0, []);
    this.#watchdog();
    const ended = await this.#finished;
    this.#lock.close();
    await this.#writing;
    await rm(join(this.#options.runtime, "processes.json"), { force: true });
    return ended;
  }

  #brain(): Slot | undefined {
    return this.#slots.get("brain.0");
  }

  #start(name: string, index: number, listen: readonly ListenWish[]): void {
    const kind = CHILD_KINDS.find((each) => each.name === name);
    if (kind === undefined) {
      this.#log.error({
        event: "child.unknown",
        child: name,
        reason: "the brain asks for a process that this version does not have",
      });
      return;
    }
    const slot = new Slot(
      {
        kind,
        index,
        setup: this.#setup(kind),
        listen,
        message: (message) => this.#heard(message),
        changed: () => this.#changed(),
        cannotStart: (failure) => this.#cannotStart(failure),
      },
      {
        clock: this.#clock,
        log: this.#log,
        realtime: (priority, start) => this.#ports.realtime(priority, start, this.#log),
        listen: (wish) => this.#ports.listen(wish),
        closeListener: (fd) => this.#ports.closeListener(fd),
        listenerHandle: (fd) => this.#ports.listenerHandle(fd),
        takeSpare: (name) => this.#spares.get(name)?.take(),
      },
    );
    this.#slots.set(`${name}.${index}`, slot);
    slot.want();
  }

  #setup(kind: ChildKind): SlotSetup["setup"] {
    const { site, node, runtime, state, lastGood } = this.#options;
    const own = kind.name === "proxy" ? { ticketSecret: this.#ticketSecret } : {};
    return { site, node, runtime, state, lastGood, ...own };
  }

  #heard(message: ChildMessage): void {
    switch (message.type) {
      case "children":
        this.#reconcile(message.wishes);
        break;
      case "reloading":
        // systemd wants the instant in microseconds of the same clock as clock_gettime(CLOCK_MONOTONIC).
        this.#ports.notify(
          message.done ? "READY=1" : `RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`,
        );
        break;
      case "summary":
        this.#ports.notify(`STATUS=${message.text}`);
        break;
      case "upgrade":
        this.#upgrade("asked for over the control socket");
        break;
      case "warm":
      case "ready":
      case "alive":
      case "failed":
        break;
    }
  }

  /** Starts and ends what the site asks for; what is asked for as before is not touched. */
  #reconcile(wishes: readonly ChildWish[]): void {
    if (this.#stopping) return;
    this.#wishesHeard = true;
    const wanted = new Map<string, readonly ListenWish[]>();
    for (const wish of wishes) {
      for (let index = 0; index < wish.count; index++) wanted.set(`${wish.name}.${index}`, wish.listen);
    }
    for (const [key, slot] of this.#slots) {
      if (key !== "brain.0" && !wanted.has(key)) slot.unwant("release");
    }
    for (const kind of CHILD_KINDS) {
      for (const [key, listen] of wanted) {
        const [name = "", index = "0"] = key.split(".");
        if (name !== kind.name) continue;
        const slot = this.#slots.get(key);
        if (slot === undefined) this.#start(name, Number(index), listen);
        else {
          slot.want();
          slot.setListeners(listen);
        }
      }
    }
  }

  #statuses(): ProcessStatus[] {
    const spares = [...this.#spares.values()].flatMap(({ status }) => status ?? []);
    return [...[...this.#slots.values()].map((slot) => slot.status), ...spares];
  }

  /** A spare is started when everything else runs: it shall not slow down what somebody waits for. */
  #keepSpares(): void {
    const slots = [...this.#slots];
    const settled = slots.every(([, { state }]) => state.phase === "running" || !state.wanted);
    for (const kind of CHILD_KINDS) {
      if (kind.spare !== true) continue;
      const asked = slots.some(([key, { state }]) => key.startsWith(`${kind.name}.`) && state.wanted);
      const kept = this.#spares.get(kind.name);
      if (this.#stopping || !asked) kept?.want(false);
      else if (settled && this.#ready) (kept ?? this.#newSpare(kind)).want(true);
    }
  }

  #newSpare(kind: ChildKind): Spare {
    const place = { name: kind.name, index: 0, successor: true, spare: true };
    const setup = { ...this.#setup(kind), ...place };
    const spare = new Spare({
      name: kind.name,
      clock: this.#clock,
      log: this.#log,
      start: () => startChild(kind, { ...setup, listeners: [] }, []),
      changed: () => this.#tellAll(),
    });
    this.#spares.set(kind.name, spare);
    return spare;
  }

  #tellAll(): void {
    this.#write();
    this.#brain()?.tellProcesses(this.#statuses());
  }

  #changed(): void {
    this.#tellAll();
    setImmediate(() => this.#keepSpares());
    const slots = [...this.#slots.values()];
    if (this.#stopping) {
      if (slots.every((slot) => slot.state.phase === "off")) this.#finish(this.#end);
      else this.#stopNext();
      return;
    }
    for (const [key, slot] of this.#slots) {
      if (slot.state.wanted || slot.state.phase !== "off") continue;
      slot.setListeners([]);
      this.#slots.delete(key);
    }
    this.#upgradeNext();
    const wanted = slots.filter((slot) => slot.state.wanted);
    if (!this.#ready && this.#wishesHeard && wanted.every((slot) => slot.state.phase === "running")) {
      this.#ready = true;
      this.#log.info({ event: "node.ready", processes: describeSlots(wanted.map((slot) => slot.status)) });
      this.#ports.notify(`READY=1\nMAINPID=${process.pid}\nSTATUS=ready`);
    }
  }

  /** A node that has never served and knows why it cannot: restarting would only repeat the message. */
  #cannotStart({ status, reason }: Failure): void {
    if (this.#ready || this.#stopping || (status !== EXIT_CONFIG && status !== EXIT_FAILED)) return;
    this.#log.error({ event: "node.gave_up", reason });
    this.#end = { status, reason };
    this.#stop("it cannot start");
  }

  /**
   * The parent itself is to be replaced, by whoever sends this (`RestartKillSignal=` of the unit). Addresses and
   * tables stay for the one that starts next. Who serves in user space cannot: a proxy's sockets end with this
   * process, so that its addresses are handed over as at any stop.
   */
  #restart(why: string): void {
    const userSpace = [...this.#slots.values()].some(
      ({ name, state }) => state.wanted && SERVING.includes(name),
    );
    if (!userSpace && !this.#stopping) this.#mode = "leave";
    this.#stop(why);
  }

  #stop(why: string): void {
    if (this.#stopping) {
      this.#log.warn({ event: "node.killed", reason: `${why} again` });
      for (const slot of this.#slots.values()) slot.kill();
      return;
    }
    this.#stopping = true;
    this.#log.info({ event: "node.stopping", reason: why, mode: this.#mode });
    this.#ports.notify("STOPPING=1");
    this.#stopNext();
  }

  /** In the reverse order of starting, one kind after the other: first the addresses go, last the tables. */
  #stopNext(): void {
    for (const kind of CHILD_KINDS.toReversed()) {
      const left = [...this.#slots].filter(
        ([key, slot]) => key.startsWith(`${kind.name}.`) && slot.state.phase !== "off",
      );
      if (left.length === 0) continue;
      for (const [, slot] of left) if (slot.state.wanted) slot.unwant(this.#mode);
      return;
    }
    this.#finish(this.#end);
  }

  /** The program on disk replaces the one that runs, child by child; see docs/guide/operations.md. */
  #upgrade(why: string): void {
    if (this.#stopping) return;
    this.#log.info({ event: "node.upgrading", reason: why });
    this.#upgrades = [...this.#slots.values()];
    for (const spare of this.#spares.values()) spare.replace();
    this.#upgradeNext();
  }
  /** One after the other: a host that is busy starting five programs is late with its advertisements. */
  #upgradeNext(): void {
    const settled = (slot: Slot): boolean =>
      slot.state.phase === "running" && slot.state.successor === undefined;
    if (![...this.#slots.values()].every((slot) => settled(slot) || !slot.state.wanted)) return;
    this.#upgrades.shift()?.replace();
  }

  #watchdog(): void {
    const { watchdog } = this.#ports;
    if (watchdog === undefined) return;
    const beat = (): void => {
      this.#ports.notify("WATCHDOG=1");
      this.#clock.setTimer(addTime(this.#clock.monotonic(), ms(watchdog / 2)), beat);
    };
    beat();
  }

  /** <runtime>/processes.json: which process is which, readable when the brain is not there to be asked. */
  #write(): void {
    this.#dirty = true;
    this.#writing ??= this.#writeAll().finally(() => (this.#writing = undefined));
  }
  async #writeAll(): Promise<void> {
    const path = join(this.#options.runtime, "processes.json");
    while (this.#dirty) {
      this.#dirty = false;
      const children = this.#statuses();
      const text = JSON.stringify({ node: this.#options.node, parent: process.pid, children });
      try {
        await writeFile(`${path}.new`, `${text}\n`, { mode: 0o600 });
        await rename(`${path}.new`, path);
      } catch (error) {
        this.#log.warn({ event: "node.processes_not_written", reason: messageOf(error) });
      }
    }
  }
}
