// `npm run demo`: sets the machine up, builds the two-tier site as namespaces on it, breaks it in the ways
// in which sites break, and prints what clients saw. Nothing is left behind, however it ends.
// `npm run demo -- --keep` leaves the lab up afterwards and says how to look around.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setUp } from "./setup.mjs";

const unknown = process.argv.slice(2).filter((argument) => argument !== "--keep");
if (unknown.length > 0) {
  console.error(`demo: unknown ${unknown.join(" ")}; it knows --keep`);
  process.exit(2);
}
setUp();

const site = "examples/two-tier/site.yaml";
const keep = process.argv.includes("--keep") ? ["--keep"] : [];
const drill = ["dist/cli/main.js", "drill", site, "--report", "reports/demo", ...keep];
// The leash: kill -9 of this process ends the lab as Ctrl-C does.
const child = spawn("setpriv", ["--pdeathsig", "KILL", process.execPath, ...drill], { stdio: "inherit" });
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
// kill -9 of npm leaves its shell and this process to others: neither may go on unseen.
const parentOf = (pid) => Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
const ancestors = () => [process.ppid, ...(process.env.npm_lifecycle_event ? [parentOf(process.ppid)] : [])];
const before = ancestors().join();
setInterval(() => ancestors().join() === before || process.exit(1), 500).unref();
child.on("error", (error) => {
  console.error(`demo: ${error.message}`);
  process.exit(1);
});
child.on("close", (code, signal) => {
  if (code === 0) console.log("A timeline of each drill: reports/demo/*.svg");
  process.exit(code ?? (signal === "SIGINT" ? 130 : 143));
});
