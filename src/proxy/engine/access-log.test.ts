import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SystemClock } from "../../base/system-clock.ts";
import { AccessLog } from "./access-log.ts";

const entry = {
  service: "web",
  route: "web-1",
  client: "127.0.0.1",
  method: "GET",
  host: "x",
  target: "/",
  version: 1,
  status: 200,
  bytes: 2,
  took: 1,
  backend: "apps/a",
  attempts: 1,
  id: "1",
  agent: "",
  referer: "",
  reason: "",
};
const patient = { timeout: 5000, interval: 20 };
let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "nines-log-"));
  file = join(directory, "access.log");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = (format: "json" | "combined" = "json", problems: string[] = []) =>
  new AccessLog({
    clock: new SystemClock(),
    file,
    format,
    onProblem: (reason) => void problems.push(reason),
  });
const read = () => (existsSync(file) ? readFileSync(file) : Buffer.alloc(0));
const descriptors = (name: string) =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(join(directory, name));
    } catch {
      return false;
    }
  });

describe("the access log", () => {
  it("goes on in a new file where its own was renamed, and lets go of the old one", async () => {
    const log = open();
    log.add({ ...entry, id: "before" });
    await vi.waitFor(() => expect(read().toString()).toContain("before"), patient);
    renameSync(file, `${file}.1`);
    await vi.waitFor(() => {
      log.add({ ...entry, id: "after" });
      expect(read().toString()).toContain("after");
    }, patient);
    expect(readFileSync(`${file}.1`, "utf8")).toContain("before");
    await vi.waitFor(() => expect(descriptors("access.log.1")).toEqual([]), patient);
    expect(descriptors("access.log")).toHaveLength(1);
  });

  it("says once that its file cannot be opened, and writes all of it when it can be", async () => {
    const problems: string[] = [];
    file = join(directory, "missing", "access.log");
    const log = open("json", problems);
    log.add({ ...entry, id: "first" });
    await new Promise((resolve) => setTimeout(resolve, 700));
    log.add({ ...entry, id: "second" });
    await vi.waitFor(() => expect(problems).toHaveLength(1), patient);
    expect(problems[0]).toMatch(/ENOENT.*access.log/);
    mkdirSync(join(directory, "missing"));
    log.add({ ...entry, id: "third" });
    await vi.waitFor(() => expect(read().toString()).toMatch(/first[^]*second[^]*third/), patient);
    expect(problems).toHaveLength(1);
  });

  it("is UTF-8 whatever a client sends, a line a request, and without control characters", async () => {
    const log = open();
    const agents = ["\xff", "caf\xc3\xa9", "\xc2\x9b31m", 'a"b\\c', "\x1b[31m"];
    for (const agent of agents) log.add({ ...entry, agent });
    await vi.waitFor(() => expect(read().toString().split("\n")).toHaveLength(agents.length + 1), patient);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(read());
    expect(text).toMatch(/^[\x20-\x7e\n]*$/);
    const told = text
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { agent: string }).agent);
    expect(told).toEqual(["\xff", "café", "\x9b31m", 'a"b\\c', "\x1b[31m"]);
  });

  it("in the combined format escapes as nginx does", async () => {
    const log = open("combined");
    log.add({ ...entry, agent: '\xff"\n' });
    await vi.waitFor(() => expect(read().toString()).toContain('"\\xFF\\x22\\x0A"\n'), patient);
  });
});
