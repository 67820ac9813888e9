import type { FieldNames } from "../http1/wire-names.ts";

/** A part of a request that is hashed or counted by. */
export type KeyKind =
  | { kind: "client" | "uri" | "path" | "route" }
  | { kind: "header"; id: number }
  | { kind: "cookie"; name: string };

export function compileKey(text: string, names: FieldNames): KeyKind {
  if (text.startsWith("header:")) return { kind: "header", id: names.idOf(text.slice(7)) };
  if (text.startsWith("cookie:")) return { kind: "cookie", name: text.slice(7) };
  return { kind: text as "client" | "uri" | "path" | "route" };
}
