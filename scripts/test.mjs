// `npm test`: sets the machine up, builds, runs the checks and all tests, and ends with a plain count.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setUp } from "./setup.mjs";

setUp({ tests: true });

const scratch = mkdtempSync(join(tmpdir(), "nines-test-"));
const count = { passed: 0, failed: 0, skipped: 0 };

function checks() {
  const names = ["types", "lint", "format", "directions", "dead code"];
  const { status } = spawnSync("node", ["scripts/check.mjs", ...names], { stdio: "inherit" });
  if (status !== 0) count.failed++;
  else count.passed++;
}

// Without root the system tests run as the root of a user namespace, where the kernel allows one; what needs more is
// skipped, and counted.
const namespace = [
  "--user",
  "--map-root-user",
  "--mount",
  "--net",
  "--pid",
  "--fork",
  "--kill-child",
  "--mount-proc",
];
const rootless =
  process.getuid() !== 0 && spawnSync("unshare", [...namespace, "true"]).status === 0
    ? ["unshare", ...namespace, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    : [];

function vitest(project, within = []) {
  const output = join(scratch, `${project}.json`);
  const [program, ...before] = [...within, "npx"];
  const { status } = spawnSync(
    program,
    [
      ...before,
      "vitest",
      "run",
      "--project",
      project,
      "--reporter",
      "default",
      "--reporter",
      "json",
      "--outputFile.json",
      output,
    ],
    { stdio: "inherit" },
  );
  let result;
  try {
    result = JSON.parse(readFileSync(output, "utf8"));
  } catch {
    result = { numPassedTests: 0, numFailedTests: 1, numPendingTests: 0, numTodoTests: 0 };
  }
  count.passed += result.numPassedTests;
  count.failed += result.numFailedTests;
  count.skipped += result.numPendingTests + result.numTodoTests;
  // A file that could not be loaded counts no test, and must not look like a pass.
  if (status !== 0 && result.numFailedTests === 0) count.failed++;
}

checks();
vitest("unit");
vitest("system", rootless);
rmSync(scratch, { recursive: true, force: true });
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
process.exit(count.failed === 0 && count.passed > 0 ? 0 : 1);
