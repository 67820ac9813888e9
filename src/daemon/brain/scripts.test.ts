import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { SystemClock } from "../../base/system-clock.ts";
import { pairInput, site } from "../testing/fakes.ts";
import { ScriptWatcher } from "./scripts.ts";

const directory = mkdtempSync(join(tmpdir(), "nines-scripts-"));
const watcher = new ScriptWatcher(new SystemClock(), () => {});
afterEach(() => {
  watcher.stop();
  rmSync(directory, { recursive: true, force: true });
});

it("ends a script that a reload removes while it runs, for good", async () => {
  const file = join(directory, "runs");
  const runs = (): number => (existsSync(file) ? readFileSync(file, "utf8").length : 0);
  const script = ["/bin/sh", "-c", `printf x >> ${file}; exec sleep 5`];
  const run = [{ script, interval: "100ms", timeout: "10s", lower: 50 }];
  const tracking = (track: object[]) =>
    site({
      ...pairInput,
      virtualRouters: Object.fromEntries(
        Object.entries(pairInput.virtualRouters ?? {}).map(([name, edge]) => [name, { ...edge, track }]),
      ) as typeof pairInput.virtualRouters,
    });
  watcher.update(tracking(run), "a");
  await vi.waitFor(() => expect(runs()).toBe(1));
  watcher.update(tracking([]), "a");
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(runs()).toBe(1);
});
