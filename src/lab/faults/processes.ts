import { OperationalError } from "../../base/errors.ts";
import type { Lab } from "../lab.ts";
import type { Job } from "../subjects/subject.ts";
import type { Fault } from "./fault.ts";

/** kill -9 of everything the subject runs on a node. The kernel stays, with whatever it was told. */
export const killAll = (node: string): Fault => ({
  what: `kill -9 of all processes on ${node}`,
  inject: async (lab) => {
    const pids = lab.processes(node);
    if (pids.length === 0)
      throw new OperationalError("NOT_FOUND", `nothing runs on ${node} that could be killed`);
    lab.signal(pids, "SIGKILL");
  },
  heal: (lab) => lab.subject.start(node),
});

/** All processes stop and know nothing of it; on waking up they believe that no time has passed. */
export function hang(node: string): Fault {
  let pids: number[] = [];
  return {
    what: `all processes on ${node} hang (SIGSTOP)`,
    inject: async (lab) => {
      pids = lab.processes(node);
      lab.signal(pids, "SIGSTOP");
    },
    heal: async (lab) => lab.signal(pids, "SIGCONT"),
  };
}

function pidOf(lab: Lab, node: string, job: Job): number {
  const pid = lab.subject.process(node, job);
  if (pid === undefined)
    throw new OperationalError("NOT_FOUND", `${lab.subject.name} has no ${job} process on ${node}`);
  return pid;
}

/** kill -9 of one process; its parent is expected to start it again. */
export const killJob = (node: string, job: Job): Fault => ({
  what: `kill -9 of the ${job} process on ${node}`,
  inject: async (lab) => lab.signal([pidOf(lab, node, job)], "SIGKILL"),
  heal: async () => {},
});

/** kill -9 of all that proxies on a node, a spare included; whoever watches over them starts them again. */
export const killProxies = (node: string): Fault => ({
  what: `kill -9 of the proxies on ${node}`,
  inject: async (lab) => {
    const pids = lab.subject.proxies(node);
    if (pids.length === 0) throw new OperationalError("NOT_FOUND", `no proxy runs on ${node}`);
    lab.signal(pids, "SIGKILL");
  },
  heal: async () => {},
});

/** No fault: what lies between two of them. */
export const pause = (what: string, wait: (lab: Lab) => Promise<void>): Fault => ({
  what,
  inject: wait,
  heal: async () => {},
});

export const killBackend = (backend: string): Fault => ({
  what: `kill -9 of the backend ${backend}`,
  inject: async (lab) => lab.stopBackend(backend),
  heal: (lab) => lab.startBackend(backend),
});
