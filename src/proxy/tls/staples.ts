import { readFileSync, statSync } from "node:fs";
import { messageOf } from "../../base/errors.ts";
import { type Issued, checkAnswer } from "../ocsp/answers.ts";
import { type Validity, holds } from "../ocsp/policy-staple.ts";
import type { Result } from "../../base/result.ts";

/** The OCSP response of one certificate: a file that comes, changes and goes while the proxy runs. */
export class Staple {
  readonly #file: string;
  readonly #issued: Result<Issued>;
  #stamp = "";
  #good: { readonly bytes: Buffer; readonly validity: Validity } | undefined;
  #problem: string | undefined;

  constructor(file: string, issued: Result<Issued>) {
    this.#file = file;
    this.#issued = issued;
  }

  /** What is stapled at this moment (wall time); an answer that has ended never is. */
  at(wall: number): Buffer | undefined {
    return this.#good !== undefined && holds(this.#good.validity, wall) ? this.#good.bytes : undefined;
  }

  /** Reads the file where it changed. Answers a problem once; a good answer of before stays while it holds. */
  refresh(wall: number): string | undefined {
    const before = this.#problem;
    const at = statSync(this.#file, { throwIfNoEntry: false });
    const stamp = at === undefined ? "" : `${at.mtimeMs} ${at.size} ${at.ino}`;
    if (stamp !== this.#stamp) {
      this.#stamp = stamp;
      this.#problem = stamp === "" ? undefined : this.#read(wall);
    } else if (this.#good !== undefined && this.at(wall) === undefined) {
      this.#good = undefined;
      this.#problem = "expired";
    }
    return this.#problem === undefined || this.#problem === before ? undefined : this.#told(this.#problem);
  }

  #read(wall: number): string | undefined {
    if (!this.#issued.ok) return this.#issued.error;
    try {
      const bytes = readFileSync(this.#file);
      const checked = checkAnswer(bytes, this.#issued.value, wall);
      if (!checked.ok) return checked.error;
      this.#good = { bytes, validity: checked.value };
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  #told(problem: string): string {
    const stays = this.#good === undefined ? "nothing is stapled" : "the one before is stapled until it ends";
    return `${this.#file}: ${problem}; ${stays}`;
  }
}
