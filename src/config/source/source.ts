import type { ConfigIssue } from "../../base/errors.ts";
import type { Positions } from "./positions.ts";

/** A file read into plain values, before the schema has seen it. */
export interface Source {
  readonly file: string;
  /** Absent where the file could not be read at all; `issues` then says why. */
  readonly value?: unknown;
  readonly positions: Positions;
  readonly issues: readonly ConfigIssue[];
}
