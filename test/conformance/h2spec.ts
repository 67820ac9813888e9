// h2spec: an HTTP/2 client that breaks the standard on purpose (https://github.com/summerwind/h2spec). It is a program
// of its own and no part of this repository.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What came out of one of its sections, such as `http2/5.1`. */
export interface Section {
  readonly id: string;
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface Verdict {
  readonly sections: readonly Section[];
  /** `SECTION: what was sent`. */
  readonly failures: readonly string[];
}

/** It says which version it is, or nothing where it is not installed. */
export function versionOf(program: string): string | undefined {
  const { status, stdout } = spawnSync(program, ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.trim().replace("Version: ", "") : undefined;
}

const count = (attributes: string, name: string): number =>
  Number(new RegExp(` ${name}="(\\d+)"`).exec(attributes)?.[1] ?? Number.NaN);
const word = (attributes: string, name: string): string =>
  (new RegExp(` ${name}="([^"]*)"`).exec(attributes)?.[1] ?? "")
    .replaceAll(/&#(\d+);|&#x([0-9A-Fa-f]+);/g, (_, decimal?: string, hex?: string) =>
      String.fromCodePoint(Number.parseInt(decimal ?? hex ?? "", decimal === undefined ? 16 : 10)),
    )
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");

/** Its report in the format of JUnit. */
export function readReport(text: string): Verdict {
  const sections: Section[] = [];
  const failures: string[] = [];
  for (const [, attributes = "", body = ""] of text.matchAll(/<testsuite( [^>]*)>(.*?)<\/testsuite>/gs)) {
    const tests = count(attributes, "tests");
    const failed = count(attributes, "failures") + count(attributes, "errors");
    const skipped = count(attributes, "skipped");
    const id = word(attributes, "package");
    if (tests > 0)
      sections.push({
        id,
        name: word(attributes, "name"),
        passed: tests - failed - skipped,
        failed,
        skipped,
      });
    for (const [, of = "", inner = ""] of body.matchAll(/<testcase( [^>]*)>(.*?)<\/testcase>/gs)) {
      if (/<(?:failure|error)\b/.test(inner)) failures.push(`${id}: ${word(of, "classname")}`);
    }
  }
  return { sections, failures };
}

/**
 * Its sections generic, http2 and hpack against a port of this host; `tls` has it speak TLS, without asking whose.
 * It waits `within` seconds for each thing that it expects.
 */
export async function runH2spec(program: string, port: number, tls: boolean, within = 2): Promise<Verdict> {
  const directory = mkdtempSync(join(tmpdir(), "nines-h2spec-"));
  const file = join(directory, "report.xml");
  const how = ["-h", "127.0.0.1", "-p", String(port), "-o", String(within), "-j", file];
  const args = [...how, ...(tls ? ["-t", "-k"] : []), "generic", "http2", "hpack"];
  try {
    const child = spawn(program, args, { stdio: "ignore", timeout: 300_000 });
    await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
    return readReport(readFileSync(file, "utf8"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
