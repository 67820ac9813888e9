/**
 * Facts on disk: one file a month, one line a fact, each with its checksum, only ever appended. A crash
 * leaves at most a torn last line, which is cut off at the next start; a bad line elsewhere is skipped and
 * counted, never believed.
 */
import {
  closeSync,
  fdatasyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { OperationalError, messageOf } from "../../base/errors.ts";
import { type Fact, instantOf, readFact } from "./facts.ts";

const NAME = /^accounts-\d{4}-\d{2}\.log$/;

export interface JournalContent {
  readonly facts: readonly Fact[];
  /** Lines that were there and could not be believed. */
  readonly damaged: number;
}

const checksum = (text: string): string => crc32(text).toString(16).padStart(8, "0");
export const formatLine = (fact: Fact): string => {
  const text = JSON.stringify(fact);
  return `${checksum(text)} ${text}\n`;
};

/** The facts of a file's text, and how many bytes of it are whole lines. */
export function readLines(text: string): JournalContent & { readonly whole: number } {
  const facts: Fact[] = [];
  let damaged = 0;
  let whole = 0;
  for (let at = 0; at < text.length;) {
    const end = text.indexOf("\n", at);
    // The torn end of a crash.
    if (end < 0) break;
    const line = text.slice(at, end);
    const body = line.slice(9);
    let fact: Fact | undefined;
    if (line[8] === " " && checksum(body) === line.slice(0, 8)) {
      try {
        fact = readFact(JSON.parse(body));
      } catch {
        fact = undefined;
      }
    }
    if (fact === undefined) damaged++;
    else facts.push(fact);
    at = whole = end + 1;
  }
  return { facts, damaged, whole };
}

function filesOf(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => NAME.test(name))
      .sort()
      .map((name) => join(directory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** All facts of a directory in the order of time. A directory that is not there has none. */
export function readJournal(directory: string): JournalContent {
  try {
    const parts = filesOf(directory).map((file) => readLines(readFileSync(file, "latin1")));
    const facts = parts.flatMap((part) => part.facts).sort((a, b) => instantOf(a) - instantOf(b));
    return { facts, damaged: parts.reduce((sum, part) => sum + part.damaged, 0) };
  } catch (error) {
    throw new OperationalError(
      "FILE_UNREADABLE",
      `the accounts in ${directory} cannot be read: ${messageOf(error)}`,
    );
  }
}

/** Appends facts; open one per directory. */
export class Journal {
  readonly #directory: string;
  #file = "";
  #descriptor = -1;

  constructor(directory: string) {
    this.#directory = directory;
    try {
      mkdirSync(directory, { recursive: true });
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Written and on the disk when this returns. The text is ASCII but for causes, which are escaped. */
  append(fact: Fact): void {
    const month = new Date(instantOf(fact)).toISOString().slice(0, 7);
    const file = join(this.#directory, `accounts-${month}.log`);
    try {
      if (file !== this.#file) this.#open(file);
      writeSync(this.#descriptor, formatLine(asciiOnly(fact)), undefined, "latin1");
      fdatasyncSync(this.#descriptor);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #open(file: string): void {
    this.close();
    const descriptor = openSync(file, "a+", 0o640);
    const text = readFileSync(file, "latin1");
    const { whole } = readLines(text);
    if (whole < text.length) ftruncateSync(descriptor, whole);
    this.#descriptor = descriptor;
    this.#file = file;
  }

  close(): void {
    if (this.#descriptor >= 0) closeSync(this.#descriptor);
    this.#descriptor = -1;
    this.#file = "";
  }

  #failed(error: unknown): OperationalError {
    return new OperationalError(
      "FILE_UNREADABLE",
      `the accounts in ${this.#directory} cannot be written: ${messageOf(error)}`,
      { retryable: true, cause: error },
    );
  }
}

/** One byte a character on disk, so that offsets in the text are offsets in the file. */
const asciiOnly = (fact: Fact): Fact =>
  "cause" in fact ? { ...fact, cause: fact.cause.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 500) } : fact;
