/** How much of an answer is searched for the expected text. */
export const ANSWER_LIMIT = 64 * 1024;

/** What a check says or waits for. */
export const bytesOf = (said: string, { hex }: { readonly hex: boolean }): Buffer =>
  Buffer.from(said, hex ? "hex" : "utf8");

/** Looks for a text in what comes in pieces. */
export class Search {
  readonly #wanted: Buffer;
  #seen = Buffer.alloc(0);
  #length = 0;

  /** Where nothing is wanted, the first byte is it. */
  constructor(wanted: Buffer | undefined) {
    this.#wanted = wanted ?? Buffer.alloc(0);
  }
  /** "over": it is not in as much as is looked at. */
  add(piece: Buffer): "found" | "over" | "more" {
    const rest = piece.subarray(0, ANSWER_LIMIT - this.#length);
    this.#length += rest.length;
    this.#seen = Buffer.concat([this.#seen, rest]);
    if (this.#length > 0 && this.#seen.includes(this.#wanted)) return "found";
    // What may be its beginning stays.
    this.#seen = this.#seen.subarray(Math.max(0, this.#seen.length - this.#wanted.length + 1));
    return this.#length >= ANSWER_LIMIT ? "over" : "more";
  }
}
