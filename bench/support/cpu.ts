/**
 * CPU by the kernel's accounting, in seconds. Packets between namespaces are handled by softirqs, mostly in the
 * context of whoever sent them, the rest in ksoftirqd: what a namespace of processes costs is the time of all its
 * processes and of ksoftirqd. What others of the machine do meanwhile is not in it.
 */
import { readFileSync, readdirSync } from "node:fs";

/** Ticks of /proc are 10 ms on every Linux that Node runs on. */
const TICK = 0.01;

const fieldsOf = (path: string): string[] =>
  readFileSync(path, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");

const sum = (fields: readonly string[], indices: readonly number[]): number =>
  indices.reduce((total, index) => total + Number(fields[index]), 0) * TICK;

/** User, system, and both of the children that were waited for: what ended meanwhile is not lost. */
const processSeconds = (pid: string): number => {
  try {
    return sum(fieldsOf(`/proc/${pid}/stat`), [11, 12, 13, 14]);
  } catch {
    return 0;
  }
};

/** Of one process that lives, to the nanosecond, without its children. */
export const threadSeconds = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`).reduce((total, thread) => {
    const [running] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
    return total + Number(running) / 1e9;
  }, 0);

/** Nice value, real-time priority and policy (0 ordinary, 1 FIFO, 2 RR) of a process's first thread. */
export const schedulingOf = (pid: number): readonly (string | undefined)[] => {
  const fields = fieldsOf(`/proc/${pid}/stat`);
  return [fields[16], fields[37], fields[38]];
};

/** All processes of this process namespace. */
const ownSeconds = (): number =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .reduce((total, pid) => total + processSeconds(pid), 0);

/** Where the host's /proc is seen from within the namespaces that `runScenario` makes. */
const HOST = "/run/host-proc";
let kernelThreads: string[] | undefined;
function softirqSeconds(): number {
  kernelThreads ??= readdirSync(HOST).filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`${HOST}/${name}/comm`, "utf8").startsWith("ksoftirqd/");
    } catch {
      return false;
    }
  });
  return kernelThreads.reduce((total, pid) => total + sum(fieldsOf(`${HOST}/${pid}/stat`), [11, 12]), 0);
}

/** Everything that is not idle or waiting for a disk, of the whole machine. */
const machineSeconds = (): number => {
  const line = readFileSync("/proc/stat", "utf8").split("\n", 1)[0] ?? "";
  const [user, nice, system, , , irq, softirq] = line.split(/ +/).slice(1).map(Number);
  return [user, nice, system, irq, softirq].reduce<number>((total, one) => total + (one ?? 0), 0) * TICK;
};

export interface Cpu {
  /** Of the processes in this process namespace and of ksoftirqd. */
  readonly own: number;
  /** Of the whole machine beyond that: what disturbed the measurement. */
  readonly others: number;
}

export const startCpu = (): (() => Cpu) => {
  const own = ownSeconds() + softirqSeconds();
  const machine = machineSeconds();
  return () => {
    const spent = ownSeconds() + softirqSeconds() - own;
    return { own: spent, others: Math.max(0, machineSeconds() - machine - spent) };
  };
};
