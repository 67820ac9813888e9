import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { OperationalError, messageOf } from "../base/errors.ts";

/**
 * A small JSON file that is either the old one or the new one, whenever the power fails: written beside,
 * synced, renamed, and the directory synced. Writes of one file follow each other.
 */
export class StateFile {
  readonly path: string;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.path = path;
  }

  /** Undefined where there is no file yet. Throws FILE_UNREADABLE where it is there and cannot be understood. */
  async read(): Promise<unknown> {
    let text: string;
    try {
      text = await readFile(this.path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new OperationalError("FILE_UNREADABLE", `${this.path}: ${messageOf(error)}`, { cause: error });
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new OperationalError("FILE_UNREADABLE", `${this.path} is not JSON: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Moves an unreadable file out of the way and says where it is; nothing of it is lost. */
  async keepAside(): Promise<string> {
    const aside = `${this.path}.unreadable`;
    await rename(this.path, aside);
    return aside;
  }

  write(value: unknown): Promise<void> {
    const written = this.#last.then(() => this.#write(`${JSON.stringify(value, undefined, 2)}\n`));
    // A write that failed does not hinder the next.
    this.#last = written.catch(() => {});
    return written;
  }

  async #write(text: string): Promise<void> {
    const beside = `${this.path}.new`;
    try {
      await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
      const file = await open(beside, "w", 0o600);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(beside, this.path);
      const directory = await open(dirname(this.path), "r");
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (error) {
      throw new OperationalError("FILE_UNREADABLE", `${this.path} cannot be written: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}
