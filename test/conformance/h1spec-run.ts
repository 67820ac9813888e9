// `npm run h1spec -- --program PATH/http_test.ts [--deno deno] [--subject nines,haproxy,nginx]`: what h1spec says of nines,
// HAProxy and nginx. Exits with 1 where nines fails anything.
import { existsSync } from "node:fs";
import { denoWorks, runH1spec } from "./h1spec.ts";
import { SUBJECTS, startSubject, subjectVersion } from "./subjects.ts";

const wordAfter = (flag: string): string | undefined => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : process.argv[at + 1];
};

const deno = wordAfter("--deno") ?? "deno";
const file = wordAfter("--program") ?? "";
if (!existsSync(file) || !denoWorks(deno)) {
  console.error("--program PATH says where h1spec's http_test.ts is, --deno PATH what runs it");
  process.exit(2);
}
for (const name of wordAfter("--subject")?.split(",") ?? Object.keys(SUBJECTS)) {
  const version = subjectVersion(name);
  if (version === undefined) {
    console.log(`${name}: skipped, not installed`);
    continue;
  }
  const running = await startSubject(name);
  try {
    const { passed, all, failures } = await runH1spec(deno, file, running.plainPort);
    console.log(`${name} ${version}: ${passed}/${all}`);
    for (const failure of failures) console.log(`  ${failure}`);
    if (name === "nines" && (passed < all || all === 0)) process.exitCode = 1;
  } finally {
    await running.stop();
  }
}
