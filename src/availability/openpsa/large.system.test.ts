/* oxlint-disable typescript/no-unnecessary-type-assertion -- the linter sees tests without noUncheckedIndexedAccess */
/**
 * A million basic events are analysed in bounded memory, exactly where linear work is enough, else between
 * bounds; and a mistake among them is told with its line.
 */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { randomInt, seededRandom } from "../../base/random.ts";

const EVENTS = 1_000_000;
const GATES = 200_000;
const PROGRAM = new URL("../../../dist/cli/main.js", import.meta.url).pathname;
const TIMEOUT = 400_000;
const scratch = mkdtempSync(join(tmpdir(), "nines-large-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Model {
  readonly gates: Iterable<string>;
  readonly probability: number;
  /** An event that is named and never defined. */
  readonly broken?: number;
}

/** Gates first, then the events in the order of their numbers; a line each. */
function modelFile({ gates, probability, broken }: Model): string {
  const file = join(scratch, "model.xml");
  const out = openSync(file, "w");
  let waiting = "";
  const write = (line: string): void => {
    waiting += line;
    if (waiting.length < 1 << 20) return;
    writeSync(out, waiting);
    waiting = "";
  };
  write('<opsa-mef>\n<define-fault-tree name="large">\n');
  for (const line of gates) write(line);
  write("</define-fault-tree>\n<model-data>\n");
  const float = `<float value="${probability}"/>`;
  for (let i = 0; i < EVENTS; i++)
    write(i === broken ? "\n" : `<define-basic-event name="e${i}">${float}</define-basic-event>\n`);
  write("</model-data>\n</opsa-mef>\n");
  writeSync(out, waiting);
  closeSync(out);
  return file;
}

/** One gate over all events. */
function* flat(kind: string): Iterable<string> {
  yield `<define-gate name="top"><${kind}>\n`;
  for (let i = 0; i < EVENTS; i++) yield `<basic-event name="e${i}"/>\n`;
  yield `</${kind}></define-gate>\n`;
}

const EACH = 1e-3;
/**
 * A binary tree of gates, each with five events of its own and, with `shared`, one of any gate. Without,
 * the top's probability is what one pass over independent gates gives.
 */
function randomTree(shared: boolean): { gates: () => Iterable<string>; probability: number } {
  const random = seededRandom(7);
  const kinds = Array.from({ length: GATES }, () => (random.next() < 0.5 ? "and" : "or"));
  const failing = new Float64Array(GATES);
  for (let g = GATES - 1; g >= 0; g--) {
    const inputs = [2 * g + 1, 2 * g + 2].filter((child) => child < GATES).map((child) => failing[child]!);
    for (let i = 0; i < EVENTS / GATES; i++) inputs.push(EACH);
    failing[g] =
      kinds[g] === "and" ? inputs.reduce((q, p) => q * p, 1) : 1 - inputs.reduce((q, p) => q * (1 - p), 1);
  }
  function* gates(): Iterable<string> {
    for (let g = 0; g < GATES; g++) {
      const own = Array.from({ length: EVENTS / GATES }, (_, i) => g * (EVENTS / GATES) + i);
      if (shared) own.push(randomInt(random, 0, EVENTS - 1));
      const inputs = [2 * g + 1, 2 * g + 2]
        .filter((child) => child < GATES)
        .map((child) => `<gate name="g${child}"/>`)
        .concat([...new Set(own)].map((i) => `<basic-event name="e${i}"/>`));
      yield `<define-gate name="g${g}"><${kinds[g]}>${inputs.join("")}</${kinds[g]}></define-gate>\n`;
    }
  }
  return { gates, probability: failing[0]! };
}

/** In 1 GiB of heap: what needs more ends with an abort, which is neither 0 nor an error of ours. */
function plan(file: string, ...options: string[]) {
  const output = join(scratch, "output");
  const out = openSync(output, "w+");
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    ["--max-old-space-size=1024", PROGRAM, "plan", file, ...options],
    { encoding: "utf8", stdio: ["ignore", out, "pipe"], timeout: TIMEOUT - 20_000, env: { NO_COLOR: "1" } },
  );
  const head = Buffer.alloc(1 << 16);
  const length = readSync(out, head, 0, head.length, 0);
  closeSync(out);
  return { status, signal, stderr, stdout: head.toString("utf8", 0, length) };
}

describe("a model of a million basic events", () => {
  it("under one or gate is analysed exactly, with every event's importance", { timeout: TIMEOUT }, () => {
    const { status, stdout, stderr } = plan(modelFile({ gates: flat("or"), probability: 1e-9 }), "--json");
    expect(stderr).toBe("");
    expect(stdout).toContain('"exact": true');
    expect(stdout).toMatch(/"probability": 0\.00099950\d/);
    expect(stdout).toContain('"event":"e99"');
    expect(status).toBe(0);
  });

  it("under one and gate says which cut set is too long to list", { timeout: TIMEOUT }, () => {
    const { status, stdout, stderr } = plan(modelFile({ gates: flat("and"), probability: 0.99 }));
    expect(stderr).toBe("");
    expect(stdout).toMatch(/top: probability below \d/);
    expect(stdout).toMatch(/no minimal cut set of 20 events or fewer/);
    expect(status).toBe(0);
  });

  it("in a tree of 200,000 gates is analysed exactly", { timeout: TIMEOUT }, () => {
    const { gates, probability } = randomTree(false);
    const { status, stdout, stderr } = plan(modelFile({ gates: gates(), probability: EACH }));
    expect(stderr).toBe("");
    expect(stdout).toContain(`g0: probability ${probability.toPrecision(6)}`);
    expect(stdout).toMatch(/\d+ minimal cut sets, by order/);
    expect(status).toBe(0);
  });

  it("in a tree whose gates share events is answered with bounds", { timeout: TIMEOUT }, () => {
    const { status, stdout, stderr } = plan(
      modelFile({ gates: randomTree(true).gates(), probability: EACH }),
    );
    expect(stderr).toBe("");
    const [, lower, upper] = /too large for an exact answer: between (\S+) and (\S+)/.exec(stdout) ?? [];
    expect(Number(lower)).toBeGreaterThan(0);
    expect(Number(upper)).toBeLessThan(1);
    expect(Number(lower)).toBeLessThanOrEqual(Number(upper));
    expect(status).toBe(0);
  });

  it("is refused with the line where one event is not defined", { timeout: TIMEOUT }, () => {
    const broken = 123_456;
    const { status, stderr } = plan(modelFile({ gates: flat("or"), probability: 1e-9, broken }), "--json");
    expect(stderr).toMatch(new RegExp(`model\\.xml:${broken + 4}:`));
    expect(stderr).toContain(`e${broken}`);
    expect(status).not.toBe(0);
    expect(stderr).not.toContain("heap out of memory");
  });
});
