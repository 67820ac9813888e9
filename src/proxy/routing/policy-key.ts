/** A part of a request that is hashed or counted by. */
export type KeyKind =
  | { kind: "client" | "uri" | "path" | "route" }
  | { kind: "header"; id: number }
  | { kind: "cookie"; name: string };
