import { closeSync, openSync } from "node:fs";
import { CLONE } from "./constants.ts";
import { check, native } from "./native.ts";

/**
 * A network namespace that lives as long as this handle, or anything in it. Sockets opened and children
 * started inside `run` belong to it. It concerns the calling thread only: call it from the main thread.
 */
export class NetworkNamespace {
  readonly #fd: number;
  private constructor(fd: number) {
    this.#fd = fd;
  }
  /** The one that this thread is in, or the one at a path such as `/run/netns/lb1` or `/proc/42/ns/net`. */
  static open(path = "/proc/thread-self/ns/net"): NetworkNamespace {
    return new NetworkNamespace(openSync(path, "r"));
  }
  /** A new and empty one: only a loopback, down. */
  static create(): NetworkNamespace {
    const here = NetworkNamespace.open();
    try {
      check(native().unshare(CLONE.NEWNET), "new network namespace");
      try {
        return NetworkNamespace.open();
      } finally {
        here.enter();
      }
    } finally {
      here.close();
    }
  }
  get descriptor(): number {
    return this.#fd;
  }
  /** Moves this thread into it, for good. */
  enter(): void {
    check(native().setns(this.#fd, CLONE.NEWNET), "enter network namespace");
  }
  /** Synchronous on purpose: what is awaited would run in whichever namespace comes next. */
  run<T>(body: () => T): T {
    const here = NetworkNamespace.open();
    try {
      this.enter();
      return body();
    } finally {
      here.enter();
      here.close();
    }
  }
  close(): void {
    closeSync(this.#fd);
  }
}
