import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import { expect, it, vi } from "vitest";
import type { ListenWish } from "./messages-parent.ts";
import { CHILD_KINDS } from "./children.ts";
import { Slot } from "./supervisor.ts";
import { fakeContext } from "./testing/fakes.ts";

const wish = (port: number): ListenWish => ({
  name: `10.0.0.1:${port}`,
  address: "10.0.0.1",
  port,
  protocol: "tcp",
  freebind: true,
});

/** A worker in name only: what it is sent is kept. */
class FakeChild extends EventEmitter {
  readonly connected = true;
  readonly pid = 1;
  readonly got: { type: string; name?: string; handle: unknown }[] = [];
  send(message: { type: string; name?: string }, handle: unknown): void {
    this.got.push({ ...message, handle: typeof handle === "function" ? undefined : handle });
  }
  kill(): void {}
  /** Messages about listeners since the last call, as `+NAME FD` and `-NAME`. */
  about(): string[] {
    return this.got
      .splice(0)
      .flatMap(({ type, name, handle }) =>
        type === "listener"
          ? [`+${name} ${(handle as { fd: number }).fd}`]
          : type === "listener_closed"
            ? [`-${name}`]
            : [type],
      );
  }
}

/** Gives the lowest number that is free, as the kernel does. */
class FakeKernel {
  readonly open = new Set<number>();
  refusing = false;
  listen(): number {
    if (this.refusing) throw new Error("EADDRNOTAVAIL");
    let fd = 20;
    while (this.open.has(fd)) fd++;
    this.open.add(fd);
    return fd;
  }
}

async function slotOf(listen: readonly ListenWish[], kernel = new FakeKernel()) {
  const kind = CHILD_KINDS.find(({ name }) => name === "proxy")!;
  const { log, logged, clock } = fakeContext();
  const children: FakeChild[] = [];
  const timers: (() => void)[] = [];
  const slot = new Slot(
    {
      kind,
      index: 0,
      setup: { site: "", node: "a", runtime: "", state: "", lastGood: false },
      listen,
      message: () => {},
      changed: () => {},
      cannotStart: () => {},
    },
    {
      clock: {
        ...clock,
        monotonic: () => clock.monotonic(),
        setTimer: (_, fire) => (timers.push(fire), { cancel: () => {} }),
      },
      log,
      realtime: (_, start) => start(),
      listen: () => kernel.listen(),
      closeListener: (fd) => void kernel.open.delete(fd),
      listenerHandle: (fd) => ({ fd }),
      takeSpare: () => {
        children.push(new FakeChild());
        return children.at(-1) as unknown as ChildProcess;
      },
    },
  );
  slot.want();
  const ready = async (): Promise<void> => {
    await vi.waitFor(() => expect(children.at(-1)?.got.at(-1)?.type).toBe("go"));
    children.at(-1)?.emit("message", { type: "ready" });
  };
  return { slot, children, timers, kernel, logged, ready };
}

it("hands over a socket that has the number or the name of one that was closed", async () => {
  const { slot, children, ready } = await slotOf([wish(80), wish(81)]);
  await ready();
  const [child] = children;
  expect(child?.about()).toEqual(["+10.0.0.1:80 20", "+10.0.0.1:81 21", "go"]);
  slot.setListeners([wish(80)]);
  expect(child?.about()).toEqual(["-10.0.0.1:81"]);
  slot.setListeners([wish(80), wish(82)]);
  expect(child?.about()).toEqual(["+10.0.0.1:82 21"]);
  slot.setListeners([wish(80)]);
  slot.setListeners([wish(80), wish(82)]);
  expect(child?.about()).toEqual(["-10.0.0.1:82", "+10.0.0.1:82 21"]);
  slot.setListeners([wish(80), wish(82)]);
  expect(child?.about()).toEqual([]);
});

it("tries a socket again that was refused, says so once, and hands it over when it is there", async () => {
  const kernel = new FakeKernel();
  kernel.refusing = true;
  const { children, timers, logged, ready } = await slotOf([wish(80)], kernel);
  await ready();
  const [child] = children;
  expect(child?.about()).toEqual(["go"]);
  for (let i = 0; i < 3; i++) for (const fire of timers.splice(0)) fire();
  expect(logged.filter(({ event }) => event === "listener.refused")).toHaveLength(1);
  kernel.refusing = false;
  for (const fire of timers.splice(0)) fire();
  expect(child?.about()).toEqual(["+10.0.0.1:80 20"]);
});

it("closes its sockets while it cannot start, and opens them for the process that can", async () => {
  const { children, kernel, ready, timers } = await slotOf([wish(80)]);
  await ready();
  children[0]?.emit("exit", null, "SIGSEGV");
  await vi.waitFor(() => expect(children).toHaveLength(2));
  expect(kernel.open.size).toBe(1);
  children[1]?.emit("exit", null, "SIGSEGV");
  expect(kernel.open.size).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 110));
  for (const fire of timers.splice(0)) fire();
  await ready();
  expect(children[2]?.about()).toEqual(["+10.0.0.1:80 20", "go"]);
});
