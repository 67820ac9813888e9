/** The site as every room sees it. The zod schema in src/config is the single source. */
import type { Site } from "../config/schema/site.ts";

export type { ForwardService, Listen, ProxyService } from "../config/schema/services.ts";
export type { Site, SiteInput } from "../config/schema/site.ts";
export type VirtualRouter = Site["virtualRouters"][string];
export type Member = VirtualRouter["members"][number];
export type Track = VirtualRouter["track"][number];
export type Pool = Site["pools"][string];
export type Backend = Pool["backends"][string];
export type Check = NonNullable<Pool["check"]>;
export type Service = Site["services"][string];

export type { Middleware, ProxyReply, ProxyRequest, ProxyResponse } from "../config/schema/middleware.ts";
export type { ProxySettings, RouteSettings, TextMatch } from "../config/schema/proxy.ts";
