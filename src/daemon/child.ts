import { OperationalError, messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { SystemClock } from "../base/system-clock.ts";
import { type Clock, addTime, seconds } from "../base/time.ts";
import type { ProcessStatus } from "../contracts/api.ts";
import { createLog } from "./log.ts";
import type { ChildMessage, ChildSetup, ParentMessage, StopMode } from "./messages-parent.ts";

export type { StopMode } from "./messages-parent.ts";

/** What a child entry is given. */
export interface ChildContext extends ChildSetup {
  readonly clock: Clock;
  readonly log: Log;
  /** The child serves. Once; the parent restarts a child that does not get here before its deadline. */
  ready(): void;
  /**
   * What to do at the end, by mode (see StopMode). The process exits when the promise settles, or after the
   * parent's deadline in any case.
   */
  onStop(stop: (mode: StopMode) => Promise<void> | void): void;
  /** SIGHUP at the parent; only the brain is asked. */
  onReload(reload: () => void): void;
  /**
   * Of a child that prepares itself before it says `warm`: settles when it shall serve, with the place that it
   * takes. Undefined for every other, whose `main` begins only then.
   */
  readonly taken: Promise<number> | undefined;
  /** A listener more, as a handle of Node's; or, without one, that the parent has closed it. */
  onListener(changed: (name: string, handle: object | undefined) => void): void;
  /** The node's processes, on every change; only the brain is told. */
  onProcesses(changed: (list: readonly ProcessStatus[]) => void): void;
  /** To the parent. */
  tell(message: ChildMessage): void;
}

/** How often a child shows its parent that its event loop turns. */
const ALIVE_EVERY = seconds(1);

/** Statuses of a child that says why it cannot start; the same as the command's (src/cli/exit-codes.ts). */
const STATUS_CONFIG = 3;
const STATUS_FAILED = 5;
const STATUS_BUG = 70;

export interface ChildOptions {
  /** `main` begins at once, says `warm` by itself and waits for `taken`: what fails until then replaces nobody. */
  readonly prepares?: boolean;
}

/**
 * Runs a child of `nines run`. The entry has been loaded when this is called; `main` starts only when the
 * parent says so, which lets a successor load while its predecessor still serves, and replace it within
 * milliseconds.
 */
export function runChild(main: (context: ChildContext) => Promise<void>, options: ChildOptions = {}): void {
  const setup = JSON.parse(process.env["NINES_CHILD"] ?? "{}") as ChildSetup;
  // What this process starts itself has no use for it, and shall not see the secret in it.
  delete process.env["NINES_CHILD"];
  process.title = `nines: ${setup.name}${setup.index > 0 ? `.${setup.index}` : ""} ${setup.node}`;
  const clock = new SystemClock();
  const log = createLog(setup.name, setup.node);
  let stop: ((mode: StopMode) => Promise<void> | void) | undefined;
  let reload: (() => void) | undefined;
  let processes: ((list: readonly ProcessStatus[]) => void) | undefined;
  let listener: ((name: string, handle: object | undefined) => void) | undefined;
  let take: (index: number) => void = () => {};
  const taken = options.prepares === true ? new Promise<number>((resolve) => (take = resolve)) : undefined;
  let stopping = false;

  const tell = (message: ChildMessage): void => {
    // The parent may be gone: "disconnect" says so, and a second error would only hide it.
    if (process.connected) process.send?.(message, undefined, undefined, () => {});
  };
  const fatal = (thrown: unknown): never => {
    const config = thrown instanceof Error && thrown.name === "ConfigError";
    const expected = thrown instanceof OperationalError;
    const status = config ? STATUS_CONFIG : expected ? STATUS_FAILED : STATUS_BUG;
    log.error({
      event: "process.failed",
      reason: messageOf(thrown),
      code: expected ? thrown.code : undefined,
      stack: status === STATUS_BUG && thrown instanceof Error ? thrown.stack : undefined,
    });
    tell({ type: "failed", status, reason: messageOf(thrown) });
    process.exit(status);
  };
  const end = async (mode: StopMode): Promise<void> => {
    if (stopping) return;
    stopping = true;
    try {
      await stop?.(mode);
    } catch (thrown) {
      fatal(thrown);
    }
    process.exit(0);
  };

  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
  // A terminal's Ctrl-C and systemd's stop reach the whole group; the parent decides on the order.
  for (const signal of ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR2"] as const)
    process.on(signal, () => {});
  process.on("disconnect", () => {
    log.error({ event: "process.orphaned", reason: "the parent process ended" });
    void end("orphaned");
  });

  const alive = (): void => {
    tell({ type: "alive" });
    clock.setTimer(addTime(clock.monotonic(), ALIVE_EVERY), alive);
  };
  const begin = (): void => {
    main({
      ...setup,
      clock,
      log,
      taken,
      tell,
      ready: () => tell({ type: "ready" }),
      onStop: (handler) => (stop = handler),
      onReload: (handler) => (reload = handler),
      onListener: (handler) => (listener = handler),
      onProcesses: (handler) => (processes = handler),
    }).catch(fatal);
  };
  process.on("message", (message: ParentMessage, handle: object | undefined) => {
    switch (message.type) {
      case "go":
        alive();
        if (taken === undefined) begin();
        else take(message.index ?? setup.index);
        break;
      case "listener":
        if (handle !== undefined) listener?.(message.name, handle);
        break;
      case "listener_closed":
        listener?.(message.name, undefined);
        break;
      case "stop":
        void end(message.mode);
        break;
      case "reload":
        reload?.();
        break;
      case "processes":
        processes?.(message.list);
        break;
    }
  });
  if (taken === undefined) tell({ type: "warm" });
  else begin();
}
