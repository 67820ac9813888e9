import { createHmac, timingSafeEqual } from "node:crypto";
import type { RouteSettings } from "../contracts/site.ts";

type StickySettings = NonNullable<RouteSettings["sticky"]>;

/** Signs and reads the cookie that names a client's backend. Stateless: every node with the secret understands it. */
export interface Sticky {
  readonly cookie: string;
  /** The backend's id (`pool/name`) in a cookie's value, where its signature is right. */
  read(value: string): string | undefined;
  /** The Set-Cookie line for a backend, without its CRLF. */
  line(backend: string, https: boolean): string;
}

const KEPT = 10_000;

export function compileSticky(settings: StickySettings, secret: Uint8Array): Sticky {
  const sign = (backend: string): string =>
    createHmac("sha256", secret).update(backend).digest("base64url").slice(0, 27);
  // Values are few (one a backend), so that the signature is worked out once each.
  const good = new Map<string, string>();
  const values = new Map<string, string>();
  return {
    cookie: settings.cookie,
    read(value) {
      const known = good.get(value);
      if (known !== undefined) return known;
      const dot = value.lastIndexOf(".");
      if (dot < 1 || value.length > 256) return undefined;
      const backend = Buffer.from(value.slice(0, dot), "base64url").toString("latin1");
      const wanted = Buffer.from(sign(backend));
      const given = Buffer.from(value.slice(dot + 1));
      if (wanted.length !== given.length || !timingSafeEqual(wanted, given)) return undefined;
      if (good.size < KEPT) good.set(value, backend);
      return backend;
    },
    line(backend, https) {
      let value = values.get(backend);
      if (value === undefined) {
        value = `${Buffer.from(backend, "latin1").toString("base64url")}.${sign(backend)}`;
        values.set(backend, value);
      }
      const age = settings.maxAge === undefined ? "" : `; Max-Age=${Math.round(settings.maxAge / 1000)}`;
      const secure = settings.secure === true || (settings.secure === "auto" && https) ? "; Secure" : "";
      const site = settings.sameSite[0]!.toUpperCase() + settings.sameSite.slice(1);
      return `Set-Cookie: ${settings.cookie}=${value}; Path=${settings.path}; HttpOnly; SameSite=${site}${age}${secure}`;
    },
  };
}
