import { createHmac, timingSafeEqual } from "node:crypto";
import type { Random } from "../base/random.ts";
import type { RouteSettings } from "../contracts/site.ts";
import type { KeyKind } from "./routing/policy-key.ts";

type StickySettings = NonNullable<RouteSettings["sticky"]>;

/** What a cookie says. */
export interface StickyCookie {
  /** `pool/name`. */
  readonly backend: string;
  /**
   * The client, so that all nodes find the same substitute for its backend; empty in cookies of older versions. Not
   * signed: who changes it changes where he goes himself, which he can as well by sending no cookie.
   */
  readonly client: string;
}

/** Signs and reads the cookie that names a client's backend. Stateless: every node with the secret understands it. */
export interface Sticky {
  readonly cookie: string;
  /** What those without a cookie are placed by. */
  readonly by: KeyKind | undefined;
  readonly comeBack: boolean;
  /** What a cookie says, where its signature is right. */
  read(value: string): StickyCookie | undefined;
  /** The Set-Cookie line for a backend, without its CRLF. */
  line(backend: string, client: string, https: boolean): string;
}

const KEPT = 10_000;
const CLIENT = /^[a-z0-9]{1,16}$/;

/** For a client that has none yet. */
export const newClient = (random: Random): string => Math.floor(random.next() * 2 ** 48).toString(36);

/** Values are `BACKEND.SIGNATURE.CLIENT`. */
export function compileSticky(settings: StickySettings, secret: Uint8Array, by: KeyKind | undefined): Sticky {
  const sign = (backend: string): string =>
    createHmac("sha256", secret).update(backend).digest("base64url").slice(0, 27);
  // What is signed is little (one text a backend), so that each signature is worked out once.
  const good = new Map<string, string>();
  const values = new Map<string, string>();
  const signedBackend = (text: string): string | undefined => {
    const known = good.get(text);
    if (known !== undefined) return known;
    const dot = text.indexOf(".");
    const backend = Buffer.from(text.slice(0, dot), "base64url").toString("latin1");
    const wanted = Buffer.from(sign(backend));
    const given = Buffer.from(text.slice(dot + 1));
    if (wanted.length !== given.length || !timingSafeEqual(wanted, given)) return undefined;
    if (good.size < KEPT) good.set(text, backend);
    return backend;
  };
  return {
    cookie: settings.cookie,
    by,
    comeBack: settings.comeBack,
    read(value) {
      const dot = value.indexOf(".");
      if (dot < 1 || value.length > 256) return undefined;
      const second = value.indexOf(".", dot + 1);
      const backend = signedBackend(second < 0 ? value : value.slice(0, second));
      if (backend === undefined) return undefined;
      const client = second < 0 ? "" : value.slice(second + 1);
      return { backend, client: CLIENT.test(client) ? client : "" };
    },
    line(backend, client, https) {
      let value = values.get(backend);
      if (value === undefined) {
        value = `${Buffer.from(backend, "latin1").toString("base64url")}.${sign(backend)}`;
        values.set(backend, value);
      }
      const age = settings.maxAge === undefined ? "" : `; Max-Age=${Math.round(settings.maxAge / 1000)}`;
      const secure = settings.secure === true || (settings.secure === "auto" && https) ? "; Secure" : "";
      const site = settings.sameSite[0]!.toUpperCase() + settings.sameSite.slice(1);
      return `Set-Cookie: ${settings.cookie}=${value}.${client}; Path=${settings.path}; HttpOnly; SameSite=${site}${age}${secure}`;
    },
  };
}
