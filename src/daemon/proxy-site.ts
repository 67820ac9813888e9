import { messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { loadSite } from "../config/load.ts";
import type { Middleware, Site } from "../contracts/site.ts";
import { AcceptedSite } from "./brain/accepted.ts";

export interface WorkerSite {
  readonly site: Site;
  readonly digest: string;
}

/**
 * The site as a proxy worker runs it: what the brain accepted, with the functions of the site file itself.
 *
 * Functions do not pass through the brain, so that the worker reads the file. Where the file is no longer
 * what was accepted (somebody edits it, and a worker is restarted meanwhile), the accepted settings go on
 * with the functions of the file; one that cannot be had answers 500 rather than let a request pass it.
 */
export async function workerSite(file: string, state: string, log: Log): Promise<WorkerSite> {
  const accepted = await new AcceptedSite(state).read();
  let loaded: WorkerSite | undefined;
  try {
    loaded = await loadSite(file);
  } catch (error) {
    if (accepted === undefined) throw error;
    log.warn({
      event: "proxy.site_unreadable",
      reason: `the site accepted last goes on: ${messageOf(error).split("\n")[0]}`,
    });
  }
  if (loaded !== undefined && (accepted === undefined || accepted.digest === loaded.digest)) return loaded;
  // One of the two is there: without both, loadSite has thrown.
  const { site, digest } = accepted!;
  graft(site, loaded?.site);
  return { site, digest };
}

const missing: Middleware = () => {
  throw new Error("the site file does not have this middleware any more; reload the site");
};

/** Puts functions, which JSON has lost, back in their places. Exported for its test. */
export function graft(accepted: Site, loaded: Site | undefined): void {
  for (const [name, service] of Object.entries(accepted.services)) {
    const theirs = loaded?.services[name]?.proxy?.routes;
    for (const [i, route] of (service.proxy?.routes ?? []).entries()) {
      const functions = theirs?.[i]?.middleware ?? [];
      const whole: Middleware[] = route.middleware.map((_, at) => functions[at] ?? missing);
      (route as { middleware: readonly Middleware[] }).middleware = whole;
    }
  }
}
