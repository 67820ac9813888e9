// `npm run check`: everything that needs neither root nor a server.
import { spawn } from "node:child_process";

const steps = [
  ["types", "npx", ["tsc", "-b", "tsconfig.json", "tsconfig.pure.json", "tsconfig.test.json"]],
  ["lint", "npx", ["oxlint", "--type-aware", "--quiet"]],
  ["format", "npx", ["prettier", "--check", "--log-level", "warn", "--cache", "."]],
  ["directions", "npx", ["depcruise", "src", "--config", ".dependency-cruiser.cjs", "--output-type", "err"]],
  ["dead code", "npx", ["knip", "--no-progress"]],
  ["unit", "npx", ["vitest", "run", "--project", "unit", "--reporter", "dot"]],
];

function run([name, command, args]) {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("close", (code) => {
      const took = ((performance.now() - started) / 1000).toFixed(1);
      console.log(`${code === 0 ? "ok    " : "FAILED"} ${name} (${took} s)`);
      if (code !== 0) console.log(output);
      resolve(code === 0);
    });
  });
}

/** The long ones beside the short ones, which follow each other: two cores are busy, and not more than that. */
async function lane(names) {
  const good = [];
  for (const step of steps) if (names.includes(step[0])) good.push(await run(step));
  return good.every(Boolean);
}

// `check.mjs types lint` runs only those.
const wanted = process.argv.slice(2);
const lanes = [["unit"], ["types"], ["lint", "format", "directions", "dead code"]];
const chosen = lanes.map((names) => names.filter((name) => wanted.length === 0 || wanted.includes(name)));
const good = await Promise.all(chosen.map(lane));
process.exit(good.every(Boolean) ? 0 : 1);
