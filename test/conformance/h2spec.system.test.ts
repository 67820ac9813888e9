import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { unknown } from "./known.ts";
import { readReport, runH2spec, versionOf } from "./h2spec.ts";
import { type Running, startSubject } from "./subjects.ts";

// Where it is not on the path: NINES_H2SPEC=/path/to/h2spec.
const program = process.env.NINES_H2SPEC ?? "h2spec";
const compiled = existsSync(new URL("../../dist/index.js", import.meta.url));
const able = compiled && versionOf(program) !== undefined;

describe.skipIf(!able)("h2spec", () => {
  let running: Running;
  beforeAll(async () => {
    running = await startSubject("nines");
  });
  afterAll(() => running.stop());

  it.each([
    ["without TLS", false],
    ["with TLS", true],
  ])("finds nothing %s that is ours to mend", { timeout: 300_000 }, async (_, tls) => {
    const { sections, failures } = await runH2spec(program, tls ? running.tlsPort : running.port, tls);
    expect(sections.reduce((sum, one) => sum + one.passed + one.failed, 0)).toBeGreaterThan(140);
    expect(unknown(failures, tls)).toEqual([]);
  });
});

describe("reading h2spec's report", () => {
  it("counts by section and names what failed", () => {
    const text = `<testsuites>
  <testsuite name="6.7. PING" package="http2/6.7" id="6.7" tests="3" skipped="1" failures="1" errors="0">
    <testcase package="http2/6.7" classname="Sends a PING frame" time="0.1"></testcase>
    <testcase package="http2/6.7" classname="Sends &#34;a&#34; PING" time="0.1"><failure>Expected: that</failure></testcase>
  </testsuite>
  <testsuite name="6. Frames" package="http2/6" id="6" tests="0" skipped="0" failures="0" errors="0"></testsuite>
</testsuites>`;
    expect(readReport(text)).toEqual({
      sections: [{ id: "http2/6.7", name: "6.7. PING", passed: 1, failed: 1, skipped: 1 }],
      failures: ['http2/6.7: Sends "a" PING'],
    });
  });
});
