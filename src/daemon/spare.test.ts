import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { afterEach, expect, it, vi } from "vitest";
import { Spare } from "./spare.ts";
import { fakeContext } from "./testing/fakes.ts";

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** Says that it is loaded, and waits. */
function start(): ChildProcess {
  const program = "process.send({ type: 'warm' }); setInterval(() => {}, 1000)";
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  children.push(child);
  return child;
}

/** A zombie, and the last of its threads: only then there is something to wait for. */
const ended = (pid: number): boolean =>
  / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8")) && readdirSync(`/proc/${pid}/task`).length === 1;

async function warmSpare(): Promise<Spare> {
  const { clock, log } = fakeContext();
  const spare = new Spare({ name: "proxy", clock, log, start, changed: () => {} });
  spare.want(true);
  await vi.waitFor(() => expect(spare.status?.phase).toBe("running"), 20_000);
  return spare;
}

it("is handed over once it is loaded", async () => {
  const spare = await warmSpare();
  expect(spare.take()).toBe(children[0]);
  expect(spare.take()).toBeUndefined();
});

it("is not handed over where it was killed together with the worker that it should replace", async () => {
  const worker = start();
  const spare = await warmSpare();
  const taken = new Promise((resolve) => worker.once("exit", () => resolve(spare.take())));
  for (const { pid } of children) process.kill(pid!, "SIGKILL");
  // Both are dead before Node is told of either: nothing is read meanwhile.
  const still = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < 20_000 && !children.every(({ pid }) => ended(pid!)); i++) Atomics.wait(still, 0, 0, 1);
  expect(await taken).toBeUndefined();
  spare.want(false);
});
