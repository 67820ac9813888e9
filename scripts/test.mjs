// `npm test`: sets the machine up, builds, runs the checks and all tests, and ends with a plain count.
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endOnSignals, endWithNpm, ended, leashed, within } from "./leash.mjs";
import { setUp } from "./setup.mjs";

const remove = (path) => {
  try {
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  } catch {
    // Another user's, or of those who end just now, with this process.
  }
};
// What a run left there that was ended by kill -9.
for (const name of readdirSync(tmpdir())) {
  const pid = /^nines-test-(\d+)-/.exec(name)?.[1];
  if (pid !== undefined && !existsSync(`/proc/${pid}`)) remove(join(tmpdir(), name));
}
const scratch = mkdtempSync(join(tmpdir(), `nines-test-${process.pid}-`));
process.on("exit", () => remove(scratch));
endOnSignals();
endWithNpm();

const options = { stdio: "inherit", env: { ...process.env, TMPDIR: scratch } };
const count = { passed: 0, failed: 0, skipped: 0 };
const started = performance.now();
const took = (what) => console.log(`${what} after ${Math.round((performance.now() - started) / 1000)} s`);

async function checks() {
  const names = ["types", "lint", "format", "directions", "dead code"];
  const status = await ended(leashed([process.execPath, "scripts/check.mjs", ...names], options));
  if (status !== 0) count.failed++;
  else count.passed++;
}

/** Of two runs at once, one is heard; `quiet` is the other one, whose words come at its end. */
async function vitest(name, namespaces, { quiet = false } = {}) {
  const output = join(scratch, `${name}.json`);
  const reporters = ["--reporter", "default", "--reporter", "json", "--outputFile.json", output];
  const run = [process.execPath, "node_modules/vitest/vitest.mjs", "run", "--project", name, ...reporters];
  const child = leashed(
    [...namespaces, ...run],
    quiet ? { ...options, stdio: ["ignore", "pipe", "pipe"] } : options,
  );
  const said = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => said.push(chunk));
  const status = await ended(child);
  process.stdout.write(Buffer.concat(said));
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
  took(`${name} tests done`);
}

await setUp({ tests: true, meanwhile: checks });
// Without root they run as the root of a user namespace, where the kernel allows one; what needs more is skipped,
// and counted.
const own = within({ network: true });
const waiting = async () => {
  await vitest("unit", within());
  await vitest("system", own);
};
await Promise.all([vitest("compute", own, { quiet: true }), waiting()]);
await vitest("system-alone", own);
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
process.exit(count.failed === 0 && count.passed > 0 ? 0 : 1);
