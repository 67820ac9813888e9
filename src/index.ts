/** What programs and `site.ts` files import as "nines". */
export { defineSite } from "./config/define-site.ts";
export type { Site, SiteInput } from "./config/schema/site.ts";
export { createProxy, type EmbeddedProxy, type EmbeddedSite } from "./proxy/embed.ts";
export type { ExplainRequest, Explanation } from "./proxy/explain.ts";
export type { Middleware, ProxyReply, ProxyRequest, ProxyResponse } from "./config/schema/middleware.ts";
