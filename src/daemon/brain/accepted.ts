import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SiteFile } from "../ports.ts";

/**
 * The site that was last accepted, as the program reads it: a brain that crashes while somebody edits the site
 * file starts again all the same. A site holds no secrets, only where they are.
 */
export class AcceptedSite {
  readonly #path: string;
  constructor(state: string) {
    this.#path = join(state, "site.accepted.json");
  }

  async write({ site, digest }: SiteFile): Promise<void> {
    await mkdir(join(this.#path, ".."), { recursive: true });
    await writeFile(`${this.#path}.new`, JSON.stringify({ site, digest }), { mode: 0o600 });
    await rename(`${this.#path}.new`, this.#path);
  }

  /** Another number with every site that is accepted; undefined where none was. */
  async changedAt(): Promise<number | undefined> {
    try {
      return (await stat(this.#path)).mtimeMs;
    } catch {
      return undefined;
    }
  }

  async read(): Promise<SiteFile | undefined> {
    try {
      const { site, digest } = JSON.parse(await readFile(this.#path, "utf8")) as SiteFile;
      return { site, digest, warnings: [] };
    } catch {
      return undefined;
    }
  }
}
