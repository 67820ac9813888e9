import { createHash } from "node:crypto";
import { chmod, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OperationalError, messageOf } from "../../base/errors.ts";

/** Where accounts and certificates are kept: a folder here; what several nodes share may stand behind it too. */
export interface AcmeStore {
  /** Undefined where there is none. Throws OperationalError. */
  read(name: string): Promise<string | undefined>;
  /** All of it or nothing, on the disk when this resolves. Throws OperationalError. */
  write(name: string, text: string): Promise<void>;
}

/** Key and chain in one file, so that one rename replaces both. */
export const certificateName = (service: string): string => `certificates/${service}.pem`;
/** What went wrong with the last orders. */
export const troubleName = (service: string): string => `certificates/${service}.json`;
const hostOf = (directory: string): string => new URL(directory).host.replaceAll(/[^a-zA-Z0-9.-]/g, "_");
/** One account for each directory; a host may have several. */
export const accountName = (directory: string): string =>
  `accounts/${hostOf(directory)}-${createHash("sha256").update(directory).digest("hex").slice(0, 8)}.json`;
/** As earlier versions named it, whichever directory of the host it was of. */
export const oldAccountName = (directory: string): string => `accounts/${hostOf(directory)}.json`;

/** Files that only their owner may read, each replaced as a whole. */
export class DirectoryStore implements AcmeStore {
  readonly #directory: string;
  constructor(directory: string) {
    this.#directory = directory;
  }

  async read(name: string): Promise<string | undefined> {
    const path = join(this.#directory, name);
    try {
      return await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new OperationalError("FILE_UNREADABLE", `${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  async write(name: string, text: string): Promise<void> {
    const path = join(this.#directory, name);
    const made = `${path}.${process.pid}.new`;
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const file = await open(made, "w", 0o600);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await chmod(made, 0o600);
      await rename(made, path);
    } catch (error) {
      await rm(made, { force: true }).catch(() => undefined);
      throw new OperationalError("FILE_UNREADABLE", `${path}: ${messageOf(error)}`, { cause: error });
    }
  }
}
