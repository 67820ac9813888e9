// `npm run demo`: sets the machine up, builds the two-tier site as namespaces on it, breaks it in the ways
// in which sites break, and prints what clients saw. Nothing is left behind, however it ends.
// `npm run demo -- --keep` leaves the lab up afterwards and says how to look around.
import { endWithNpm, leashed } from "./leash.mjs";
import { setUp } from "./setup.mjs";

const unknown = process.argv.slice(2).filter((argument) => argument !== "--keep");
if (unknown.length > 0) {
  console.error(`demo: unknown ${unknown.join(" ")}; it knows --keep`);
  process.exit(2);
}
await setUp();

const site = "examples/two-tier/site.yaml";
const keep = process.argv.includes("--keep") ? ["--keep"] : [];
const drill = ["dist/cli/main.js", "drill", site, "--report", "reports/demo", ...keep];
// kill -9 of this process ends the lab as Ctrl-C does.
const child = leashed([process.execPath, ...drill]);
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
endWithNpm();
child.on("error", (error) => {
  console.error(`demo: ${error.message}`);
  process.exit(1);
});
child.on("close", (code, signal) => {
  if (code === 0) console.log("A timeline of each drill: reports/demo/*.svg");
  process.exit(code ?? (signal === "SIGINT" ? 130 : 143));
});
