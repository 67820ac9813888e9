import type { RouteSettings } from "../../contracts/site.ts";

/** The target as the backend gets it. Patterns see the path only; the query is kept. */
export function compileRewrite(rewrite: RouteSettings["rewrite"]): ((target: string) => string) | undefined {
  if (rewrite === undefined) return undefined;
  if ("prefix" in rewrite) {
    const { prefix, to } = rewrite;
    return (target) => {
      if (!target.startsWith(prefix)) return target;
      const rest = target.slice(prefix.length);
      // /api -> / must not make //users of /api/users.
      const joined = to.endsWith("/") && rest.startsWith("/") ? to + rest.slice(1) : to + rest;
      return joined.startsWith("/") ? joined : `/${joined}`;
    };
  }
  const pattern = new RegExp(rewrite.pattern, "u");
  const { to } = rewrite;
  return (target) => {
    const at = target.indexOf("?");
    const path = at < 0 ? target : target.slice(0, at);
    const changed = path.replace(pattern, to).replaceAll(/[^\x21-\x7e]|#/g, "");
    return (changed.startsWith("/") ? changed : `/${changed}`) + (at < 0 ? "" : target.slice(at));
  };
}

export interface RedirectInput {
  readonly scheme: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
}

/** Fills in `${host}` and its like. */
export const redirectTarget = (to: string, input: RedirectInput): string =>
  to.replaceAll(/\$\{(scheme|host|path|query|target)\}/g, (_, key: string) =>
    key === "target" ? input.path + input.query : input[key as keyof RedirectInput],
  );
