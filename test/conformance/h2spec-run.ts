// `npm run h2spec -- [--program h2spec] [--subject nines,haproxy,nginx] [--within 2]`: what h2spec says of nines, HAProxy
// and nginx, without and with TLS, by section. Exits with 1 where nines fails otherwise than known.ts says.
import { unknown } from "./known.ts";
import { type Verdict, runH2spec, versionOf } from "./h2spec.ts";
import { SUBJECTS, startSubject, subjectVersion } from "./subjects.ts";

const wordAfter = (flag: string): string | undefined => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : process.argv[at + 1];
};

const program = wordAfter("--program") ?? "h2spec";
const version = versionOf(program);
if (version === undefined) {
  console.error(`${program} is not installed: --program PATH says where it is`);
  process.exit(2);
}
const within = Number(wordAfter("--within") ?? 2);
const columns: { name: string; verdict: Verdict }[] = [];
const unexplained: string[] = [];
console.log(`h2spec ${version}`);
for (const name of wordAfter("--subject")?.split(",") ?? Object.keys(SUBJECTS)) {
  const of = subjectVersion(name);
  if (of === undefined) {
    console.log(`${name}: skipped, not installed`);
    continue;
  }
  console.log(`${name} ${of}`);
  const running = await startSubject(name);
  try {
    for (const tls of [false, true]) {
      const verdict = await runH2spec(program, tls ? running.tlsPort : running.port, tls, within);
      columns.push({ name: tls ? `${name}, TLS` : name, verdict });
      for (const failure of verdict.failures) console.log(`  ${tls ? "TLS" : "cleartext"}: ${failure}`);
      if (name === "nines") unexplained.push(...unknown(verdict.failures, tls));
    }
  } finally {
    await running.stop();
  }
}

/** `http2/6.9.1` counts as `http2/6`. */
const chapter = (id: string): string => id.split(".")[0] ?? id;
const chapters = [
  ...new Set(columns.flatMap(({ verdict }) => verdict.sections.map(({ id }) => chapter(id)))),
];
const cell = ({ sections }: Verdict, of: (id: string) => boolean): string => {
  const these = sections.filter(({ id }) => of(id));
  const passed = these.reduce((sum, one) => sum + one.passed, 0);
  const all = these.reduce((sum, one) => sum + one.passed + one.failed + one.skipped, 0);
  return `${passed}/${all}`;
};
const line = (first: string, cells: readonly string[]): void =>
  console.log(`| ${[first, ...cells].join(" | ")} |`);
console.log("");
line(
  "section",
  columns.map(({ name }) => name),
);
line(
  "---",
  columns.map(() => "---:"),
);
for (const one of chapters)
  line(
    one,
    columns.map(({ verdict }) => cell(verdict, (id) => chapter(id) === one)),
  );
line(
  "all",
  columns.map(({ verdict }) => cell(verdict, () => true)),
);
for (const failure of unexplained) console.log(`not explained: ${failure}`);
process.exitCode = unexplained.length > 0 ? 1 : 0;
