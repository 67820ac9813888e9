/** Schedulers by which all nodes choose the same backend for a client, without a word between them. */
export const CONSISTENT: ReadonlySet<string> = new Set(["maglev", "source"]);
