/** What programs and `site.ts` files import as "nines". */
export { defineSite } from "./config/define-site.ts";
export type { Site, SiteInput } from "./config/schema/site.ts";
