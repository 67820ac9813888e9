import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import { OperationalError, type OperationalCode, messageOf } from "../base/errors.ts";
import { ERRNO } from "./constants.ts";

declare const watchBrand: unique symbol;
/** A readiness watch of the native part: opaque. */
export interface WatchHandle {
  readonly [watchBrand]: true;
}

/** What native/ offers: one function per system call. Each answers what the call answered, or -errno. */
export interface Native {
  socket(domain: number, type: number, protocol: number): number;
  close(fd: number): number;
  bind(fd: number, address: Uint8Array): number;
  connect(fd: number, address: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number;
  /** Fills `value`, answers its length. */
  getsockopt(fd: number, level: number, name: number, value: Uint8Array): number;
  getsockname(fd: number, address: Uint8Array): number;
  attachFilter(fd: number, instructions: Uint8Array): number;
  cloexec(fd: number, on: 0 | 1): number;
  flock(fd: number, operation: number): number;
  sendmsg(
    fd: number,
    data: Uint8Array,
    flags: number,
    address: Uint8Array | null,
    control: Uint8Array | null,
  ): number;
  /** See native/src/socket.c for how the arrays are cut into slots. */
  recvmmsg(
    fd: number,
    data: Uint8Array,
    slot: number,
    names: Uint8Array | null,
    nameSlot: number,
    controls: Uint8Array | null,
    controlSlot: number,
    meta: Int32Array,
    flags: number,
  ): number;
  sendmmsg(
    fd: number,
    data: Uint8Array,
    names: Uint8Array | null,
    nameSlot: number,
    controls: Uint8Array | null,
    controlSlot: number,
    meta: Int32Array,
    count: number,
    flags: number,
  ): number;
  watchOpen(fd: number): WatchHandle | number;
  watchStart(watch: WatchHandle, events: number, ready: (events: number) => void): number;
  watchStop(watch: WatchHandle): number;
  watchClose(watch: WatchHandle): number;
  watchRef(watch: WatchHandle, on: 0 | 1): number;
  lockRange(address: number, length: number): number;
  schedSet(policy: number, priority: number): number;
  schedGet(): number;
  prctl(option: number, a: number, b: number): number;
  setrlimit(resource: number, soft: number, hard: number): number;
  capget(words: Uint32Array): number;
  dropCapabilities(keepLow: number, keepHigh: number): number;
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
}

let loaded: Native | OperationalError | undefined;

/** The native part, or an OperationalError NATIVE_UNAVAILABLE. Loaded on first use, once. */
export function native(): Native {
  // src/linux and dist/linux lie equally deep, so one path serves both.
  loaded ??= load(new URL("../../native/build/nines.node", import.meta.url).pathname);
  if (loaded instanceof OperationalError) throw loaded;
  return loaded;
}

/** Whether the native part can be loaded, and why not: for `nines doctor`. */
export function nativeProblem(): OperationalError | undefined {
  try {
    native();
    return undefined;
  } catch (error) {
    return error as OperationalError;
  }
}

export function load(path: string): Native | OperationalError {
  try {
    return createRequire(import.meta.url)(path) as Native;
  } catch (error) {
    const why = messageOf(error).split("\n")[0] ?? "";
    const message = `the native part ${path} cannot be loaded (${why}); build it with: npm run build --workspace native`;
    return new OperationalError("NATIVE_UNAVAILABLE", message, { cause: error });
  }
}

/** `EPERM` for 1, as errno(3) names it. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

const codes: Readonly<Record<number, OperationalCode>> = {
  [ERRNO.EPERM]: "PERMISSION",
  [ERRNO.EACCES]: "PERMISSION",
  [ERRNO.ENODEV]: "INTERFACE_MISSING",
  [ERRNO.EOPNOTSUPP]: "KERNEL_UNSUPPORTED",
  [ERRNO.EPROTONOSUPPORT]: "KERNEL_UNSUPPORTED",
  [ERRNO.EAFNOSUPPORT]: "KERNEL_UNSUPPORTED",
  [ERRNO.ENOBUFS]: "KERNEL_BUSY",
  [ERRNO.EBUSY]: "KERNEL_BUSY",
  [ERRNO.EAGAIN]: "KERNEL_BUSY",
};

/** A refusal of the kernel. `errno` is positive; the message says what was tried and the errno's name. */
export class KernelError extends OperationalError {
  readonly errno: number;
  constructor(what: string, errno: number, detail = "") {
    const code = codes[errno] ?? "KERNEL_REFUSED";
    const hint = code === "PERMISSION" ? "; it needs a capability that this process lacks" : "";
    super(code, `${what}: ${errnoName(errno)}${detail === "" ? "" : ` (${detail})`}${hint}`, {
      retryable: code === "KERNEL_BUSY",
    });
    this.errno = errno;
  }
}

/** Passes on what a native call answered; throws a KernelError for a negative one. */
export function check(result: number, what: string): number {
  if (result < 0) throw new KernelError(what, -result);
  return result;
}
