import { OperationalError } from "../base/errors.ts";

export interface ParentOptions {
  readonly site: string;
  readonly node: string;
  /** Directory of this node's sockets. */
  readonly runtime: string;
  /** Directory of what outlives a restart. */
  readonly state: string;
}

/** Runs the node until it is told to stop; the exit status of the process. */
export function runParent(options: ParentOptions): Promise<number> {
  return Promise.reject(new OperationalError("CHILD_FAILED", `node ${options.node}: not built yet`));
}
