import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { LogFields } from "../base/log.ts";
import { SystemClock } from "../base/system-clock.ts";
import { ms, seconds } from "../base/time.ts";
import { HookRunner } from "./hooks.ts";

let directory = "";
let counted: Record<string, number>;
let warned: LogFields[];
let hooks: HookRunner;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nines-hooks-"));
  counted = {};
  warned = [];
  const quiet = (): void => {};
  const log = {
    debug: quiet,
    info: quiet,
    warn: (fields: LogFields) => void warned.push(fields),
    error: quiet,
  };
  hooks = new HookRunner(
    new SystemClock(),
    log,
    (counter) => (counted[counter] = (counted[counter] ?? 0) + 1),
  );
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const shell = (script: string, timeout = seconds(20)) => ({
  command: ["/bin/sh", "-c", script],
  timeout,
  input: { router: "edge", state: "active" },
});
const read = (name: string): string => {
  try {
    return readFileSync(join(directory, name), "utf8");
  } catch {
    return "";
  }
};
const gone = (pid: number): boolean => {
  try {
    // A zombie that nobody has reaped yet runs no more either.
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
};

describe("hooks", () => {
  it("get JSON on their standard input", async () => {
    hooks.run(shell(`cat > ${directory}/input`));
    await vi.waitFor(() => expect(read("input")).toBe('{"router":"edge","state":"active"}\n'), 10_000);
    expect(counted).toMatchObject({ hooks_run: 1 });
  });
  it("are killed at their deadline, with what they started, and the next one runs", async () => {
    hooks.run(shell(`sleep 300 & echo $! > ${directory}/child; echo $$ > ${directory}/self; wait`, ms(400)));
    hooks.run(shell(`touch ${directory}/next; echo done > ${directory}/next`));
    await vi.waitFor(() => expect(read("next")).toBe("done\n"), 10_000);
    expect(counted).toMatchObject({ hooks_run: 2, hooks_failed: 1 });
    expect(warned).toMatchObject([{ event: "redundancy.hook_failed", reason: "killed after 400 ms" }]);
    for (const name of ["child", "self"])
      await vi.waitFor(() => expect(gone(Number(read(name)))).toBe(true), 10_000);
  });
  it("fail with their status, their signal, or because there is no such program", async () => {
    hooks.run(shell("exit 3"));
    hooks.run(shell("kill -TERM $$"));
    hooks.run({ ...shell(""), command: [join(directory, "missing")] });
    await vi.waitFor(() => expect(counted["hooks_failed"]).toBe(3), 10_000);
    expect(warned.map(({ reason }) => reason)).toEqual([
      "exit status 3",
      "ended by SIGTERM",
      expect.stringContaining("ENOENT"),
    ]);
  });
  it("do not pile up: beyond eight that wait the oldest is dropped", async () => {
    hooks.run(shell(`until [ -e ${directory}/go ]; do sleep 0.05; done`));
    for (let i = 0; i < 10; i++) hooks.run(shell(`echo ${i} >> ${directory}/order`));
    hooks.run(shell(`echo end >> ${directory}/order`));
    expect(counted).toMatchObject({ hooks_run: 1, hooks_dropped: 3 });
    writeFileSync(join(directory, "go"), "");
    await vi.waitFor(() => expect(read("order")).toBe("3\n4\n5\n6\n7\n8\n9\nend\n"), 10_000);
  });
});
