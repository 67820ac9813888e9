/** A million basic events are read in bounded memory, and a mistake among them is told with its line. */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";

const EVENTS = 1_000_000;
const PROGRAM = new URL("../../../dist/cli/main.js", import.meta.url).pathname;
const scratch = mkdtempSync(join(tmpdir(), "nines-large-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** One gate over all events, defined in the order of their numbers; `broken` is named and never defined. */
function modelFile(name: string, broken: number): string {
  const file = join(scratch, name);
  const out = openSync(file, "w");
  const all = (line: (i: number) => string): void => {
    for (let from = 0; from < EVENTS; from += 10_000)
      writeSync(out, Array.from({ length: 10_000 }, (_, i) => line(from + i)).join(""));
  };
  writeSync(out, '<opsa-mef>\n<define-fault-tree name="large">\n<define-gate name="top"><or>\n');
  all((i) => `<basic-event name="e${i}"/>\n`);
  writeSync(out, "</or></define-gate>\n</define-fault-tree>\n<model-data>\n");
  all((i) =>
    i === broken ? "\n" : `<define-basic-event name="e${i}"><float value="1e-9"/></define-basic-event>\n`,
  );
  writeSync(out, "</model-data>\n</opsa-mef>\n");
  closeSync(out);
  return file;
}
/** In 1 GiB of heap: what needs more ends with an abort, which is neither 0 nor an error of ours. */
const plan = (file: string) =>
  spawnSync(process.execPath, ["--max-old-space-size=1024", PROGRAM, "plan", file, "--json"], {
    encoding: "utf8",
    maxBuffer: 2 ** 30,
    timeout: 110_000,
  });

it("is refused with the line where one event is not defined", { timeout: 120_000 }, () => {
  const { status, stderr } = plan(modelFile("broken.xml", 123_456));
  expect(stderr).toMatch(/broken\.xml:123460:/);
  expect(stderr).toContain("e123456");
  expect(status).not.toBe(0);
  expect(stderr).not.toContain("heap out of memory");
});
