import { unreachable } from "../../base/result.ts";
import { Field, type FieldNames } from "../http1/wire-names.ts";
import { type MatchInput, cookieValue } from "./policy-match.ts";

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

/** What a request has there; empty where it has nothing. */
export function keyOf(key: KeyKind, request: MatchInput): string {
  switch (key.kind) {
    case "client":
      return request.client;
    case "uri":
      return request.host + request.path + request.query;
    case "path":
      return request.path;
    case "route":
      return "";
    case "header":
      return request.field(key.id) ?? "";
    case "cookie":
      return cookieValue(request.field(Field.cookie), key.name) ?? "";
    default:
      return unreachable(key);
  }
}
