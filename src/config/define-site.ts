import type { SiteInput } from "./schema/site.ts";

/** For site.ts: gives the editor the types of a site file. Everything is checked when it is loaded. */
export const defineSite = (site: SiteInput): SiteInput => site;
