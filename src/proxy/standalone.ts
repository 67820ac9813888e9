import { connect } from "node:net";
import { OperationalError } from "../base/errors.ts";
import type { Clock } from "../base/time.ts";
import { addTime, ms } from "../base/time.ts";
import type { EmbeddedSite } from "./embed.ts";
import type { Proxy, ProxySite } from "./proxy.ts";

export interface QuickOptions {
  /** Ports or address:port. */
  readonly to: readonly string[];
  /** A port or address:port. */
  readonly listen: string;
  readonly scheduler: string;
  readonly log: boolean;
}

/** `3000` is a port of this host; `10.0.0.1:80` and `[2001:db8::1]:80` are themselves. */
export function expandAddress(text: string, host: string): string {
  if (!/^\d+$/.test(text)) return text;
  if (Number(text) < 1 || Number(text) > 65535)
    throw new OperationalError("CONFLICT", `"${text}" is not a port; a port is 1..65535`);
  return `${host}:${text}`;
}

/** The site that `nines proxy --to 3000 --listen 8080` stands for. */
export function quickSite(options: QuickOptions): EmbeddedSite {
  const backends = options.to.map((to, i) => [`backend${i + 1}`, expandAddress(to, "127.0.0.1")]);
  return {
    pools: {
      backends: { backends: Object.fromEntries(backends) as Record<string, string>, check: { tcp: true } },
    },
    services: {
      web: {
        listen: `${expandAddress(options.listen, "0.0.0.0")}/tcp`,
        proxy: {
          routes: [{ pool: "backends", balance: { scheduler: options.scheduler as "round-robin" } }],
          ...(options.log ? { accessLog: { file: "-", format: "combined" } } : {}),
        },
      },
    },
  };
}

const CHECK_EVERY = ms(1000);
const CHECK_WITHIN_MS = 1000;

/**
 * The simplest check, for a proxy without a brain: does a connection open? One good one is enough to serve,
 * two bad ones in a row are enough not to. Returns what ends it.
 */
export function checkByConnecting(
  proxy: Proxy,
  site: ProxySite,
  clock: Clock,
  changed: (backend: string, up: boolean, reason: string) => void,
): () => void {
  let ended = false;
  const bad = new Map<string, number>();
  const one = (pool: string, backend: string, address: string, port: number, weight: number): void => {
    const id = `${pool}/${backend}`;
    const done = (reason: string | undefined): void => {
      if (ended) return;
      const before = bad.get(id);
      const now = reason === undefined ? 0 : Math.min(2, (before ?? 1) + 1);
      bad.set(id, now);
      if (now === before || (before === undefined && now === 0) || now === 1) return;
      const up = now === 0;
      proxy.backendStatus({
        pool,
        backend,
        health: up ? "up" : "down",
        admin: "enabled",
        reason: reason ?? "connected",
        effectiveWeight: up ? weight : 0,
      });
      if (before !== 1 || !up) changed(id, up, reason ?? "connected");
    };
    const socket = connect({ host: address, port });
    socket.setTimeout(CHECK_WITHIN_MS, () => {
      socket.destroy();
      done("no connection within a second");
    });
    socket.once("connect", () => {
      socket.destroy();
      done(undefined);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
  };
  const round = (): void => {
    if (ended) return;
    for (const [pool, { backends }] of Object.entries(site.pools)) {
      for (const [name, { at, weight }] of Object.entries(backends))
        one(pool, name, at.address, at.port, weight);
    }
    clock.setTimer(addTime(clock.monotonic(), CHECK_EVERY), round);
  };
  round();
  return () => {
    ended = true;
  };
}
